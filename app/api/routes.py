"""The table of routes: the operations of the API, and what is asked of the process itself."""

from aiohttp import web

from batchd.api import failures
from batchd.api.handlers import handler_of
from batchd.api.keys import OPENAPI, SERVICES
from batchd.domain.errors import ProcessingTimeout
from batchd.endpoints.table import ENDPOINTS
from batchd.endpoints.wire import encode


async def _healthz(_: web.Request) -> web.StreamResponse:
    """Say that the process answers; nothing else is asked."""
    return web.json_response({"status": "alive"})


async def _readyz(request: web.Request) -> web.StreamResponse:
    """Say whether a request could be served: 503, with the part that does not answer, if not."""
    checks = await request.app[SERVICES].health.check()
    silent = [name for name, answers in checks.items() if not answers]
    if silent:
        raise ProcessingTimeout(f"Not ready: {', '.join(silent)}.")
    return web.Response(
        body=encode({"status": "ready", "checks": checks}), content_type="application/json"
    )


async def _openapi(request: web.Request) -> web.StreamResponse:
    return web.Response(body=request.app[OPENAPI], content_type="application/json")


ROUTES: tuple[tuple[str, str, failures.Handler], ...] = (
    *((endpoint.method, endpoint.path, handler_of(endpoint)) for endpoint in ENDPOINTS),
    ("GET", "/healthz", _healthz),
    ("GET", "/readyz", _readyz),
    ("GET", "/openapi.json", _openapi),
)
"""Method, path, handler."""
