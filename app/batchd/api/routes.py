"""The table of routes: the operations of the API, and what is asked of the process itself."""

from dataclasses import dataclass

from aiohttp import web

from batchd.api.context import AppContext
from batchd.api.handlers import Handler, Parameters, handler_of
from batchd.api.responses import Response, json_answer
from batchd.domain.errors import ProcessingTimeout
from batchd.observability import metrics
from batchd.operations.parsing import encode
from batchd.operations.table import ENDPOINTS


async def _healthz(
    _state: AppContext, _request: web.BaseRequest, _parameters: Parameters
) -> Response:
    """Say that the process answers; nothing else is asked."""
    return json_answer(encode({"status": "alive"}))


async def _readyz(
    state: AppContext, _request: web.BaseRequest, _parameters: Parameters
) -> Response:
    """Say whether a request could be served: 503, with the part that does not answer, if not."""
    health = state.services.health
    checks = await health.check()
    silent = [name for name, answers in checks.items() if not answers]
    if silent:
        raise ProcessingTimeout(f"Not ready: {', '.join(silent)}.")
    body = {"status": "ready", "checks": checks, "policy": health.policy}
    return json_answer(encode(body))


async def _metrics(
    _state: AppContext, _request: web.BaseRequest, _parameters: Parameters
) -> Response:
    return Response(metrics.exposition(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def _openapi(
    state: AppContext, _request: web.BaseRequest, _parameters: Parameters
) -> Response:
    return json_answer(state.openapi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    name: str
    """That of the operation, also in the metrics."""
    method: str = "GET"
    path: str
    """Its last segment may be a `{parameter}`."""
    handler: Handler


ROUTES: tuple[Route, ...] = (
    *(
        Route(
            name=endpoint.name,
            method=endpoint.method,
            path=endpoint.path,
            handler=handler_of(endpoint),
        )
        for endpoint in ENDPOINTS
    ),
    Route(name="healthz", path="/healthz", handler=_healthz),
    Route(name="readyz", path="/readyz", handler=_readyz),
    Route(name="metrics", path="/metrics", handler=_metrics),
    Route(name="openapi", path="/openapi.json", handler=_openapi),
)
