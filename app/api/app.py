"""The application: routes, and the services for as long as it runs."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from batchd.api.handlers import MAX_BODY
from batchd.api.keys import OPENAPI, OVERLOAD, RATE_LIMIT, SERVICES
from batchd.api.openapi import document
from batchd.api.overload import Overload
from batchd.api.rate import RateLimit
from batchd.api.routes import ROUTES
from batchd.endpoints.wire import encode
from batchd.services.container import Services
from batchd.settings import Settings

OpenServices = Callable[[], AbstractAsyncContextManager[Services]]


def create_app(settings: Settings, open_services: OpenServices) -> web.Application:
    """Return the application. It opens its services when it starts, and closes them at its end."""

    async def services(app: web.Application) -> AsyncIterator[None]:
        async with open_services() as opened:
            app[SERVICES] = opened
            yield

    app = web.Application(client_max_size=MAX_BODY)
    app[RATE_LIMIT] = RateLimit(settings.rate_per_s)
    app[OVERLOAD] = Overload(settings.max_requests)
    app[OPENAPI] = encode(document())
    app.cleanup_ctx.append(services)
    for route in ROUTES:
        # Whatever stands in a parameter's place, braces too, is a parameter, if a malformed one.
        path = route.path.replace("}", ":[^/]+}")
        app.router.add_route(route.method, path, route.handler, name=route.name)
    return app
