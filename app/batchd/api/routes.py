"""The routes: the operations of the API, and the paths of the process itself."""

from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler

from batchd.api import expect_continue
from batchd.api.context import CONTEXT
from batchd.api.handlers import handler_of
from batchd.api.responses import json_response, response
from batchd.domain.errors import ProcessingTimeout
from batchd.observability import metrics
from batchd.operations.parsing import encode
from batchd.operations.table import AnyOperation


async def _healthz(_: web.Request) -> web.StreamResponse:
    """Respond that the process is alive; nothing else is checked."""
    return json_response(encode({"status": "alive"}))


async def _readyz(request: web.Request) -> web.StreamResponse:
    """Respond whether requests can be served; if not, with 503 and what does not respond."""
    context = request.app[CONTEXT]
    checks = await context.health.get()
    failed = [name for name, succeeded in checks.items() if not succeeded]
    if failed:
        raise ProcessingTimeout(f"Not ready: {', '.join(failed)}.")
    return json_response(
        encode({"status": "ready", "checks": checks, "policy": context.services.health.policy})
    )


async def _metrics(request: web.Request) -> web.StreamResponse:
    exposition = await request.app[CONTEXT].metrics.get()
    return response(exposition, content_type=metrics.CONTENT_TYPE)


async def _openapi(request: web.Request) -> web.StreamResponse:
    return json_response(request.app[CONTEXT].openapi)


_SLASH = ".slash"
"""Suffix of the names of routes with a trailing slash: aiohttp requires unique names."""

_PROCESS_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("healthz", "/healthz", _healthz),
    ("readyz", "/readyz", _readyz),
    ("metrics", "/metrics", _metrics),
    ("openapi", "/openapi.json", _openapi),
)


def allowed_methods(router: web.UrlDispatcher, path: str) -> frozenset[str]:
    """Return the methods of a path; empty if there is no such path."""
    methods: set[str] = set()
    for resource in router.resources():
        info = resource.get_info()
        matches = info["pattern"].fullmatch(path) if "pattern" in info else info.get("path") == path
        if matches:
            methods.update(route.method for route in resource)
    return frozenset(methods)


def route_name(request: web.Request) -> str:
    """Return the name of the operation that a request is routed to; empty if there is none."""
    return (request.match_info.route.name or "").removesuffix(_SLASH)


def with_trailing_slash(routes: Iterable[web.RouteDef]) -> list[web.RouteDef]:
    """Return the same routes for their paths with a trailing slash.

    They do not redirect: a client that follows no redirects, or repeats a POST as a GET when it
    does, is served, too.
    """
    return [
        web.route(
            route.method,
            f"{route.path}/",
            route.handler,
            **{**route.kwargs, "name": f"{route.kwargs['name']}{_SLASH}"},
        )
        for route in routes
    ]


def routes_of(operations: Iterable[AnyOperation]) -> list[web.RouteDef]:
    """Return all routes, each named after its operation; GET routes answer HEAD as well."""
    rows = [
        *((op.method, op.path, handler_of(op), op.name) for op in operations),
        *(("GET", path, handler, name) for name, path, handler in _PROCESS_ROUTES),
    ]
    return [
        web.route(
            method,
            # Braces in a parameter are malformed values (400), not another path (404).
            path.replace("}", ":[^/]+}"),
            handler,
            name=name,
            expect_handler=expect_continue.defer,
        )
        for method, path, handler, name in rows
    ]
