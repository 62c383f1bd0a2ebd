"""Builds the aiohttp application of the API."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from aiohttp import web

from batchd.api.concurrency_limit import ConcurrencyLimit
from batchd.api.context import CONTEXT, AppContext
from batchd.api.error_responses import ErrorResponses
from batchd.api.handlers import MAX_BODY_BYTES
from batchd.api.log_limit import LogLimit
from batchd.api.middlewares import MIDDLEWARES
from batchd.api.rate_limit import RateLimit
from batchd.api.routes import routes_of, with_trailing_slash
from batchd.api.shared_result import SharedResult
from batchd.observability import metrics
from batchd.operations.openapi.document import document
from batchd.operations.parsing import encode
from batchd.operations.table import OPERATIONS, AnyOperation
from batchd.services.container import Services
from batchd.settings import Settings

OpenServices = Callable[[], AbstractAsyncContextManager[Services]]


def create_app(
    settings: Settings,
    open_services: OpenServices,
    *,
    operations: Sequence[AnyOperation] = OPERATIONS,
) -> web.Application:
    """Return the application; its services are opened when it starts and closed when it ends."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with open_services() as services:
            app[CONTEXT] = AppContext(
                services=services,
                errors=ErrorResponses(log_limit=LogLimit(), help_base=settings.help_url),
                concurrency=ConcurrencyLimit(settings.max_requests),
                rate_limit=RateLimit(settings.rate_per_s),
                body_timeout_s=settings.body_timeout_s,
                health=SharedResult(services.health.check),
                # In a thread: where several processes share a folder, it reads all their files.
                metrics=SharedResult(partial(asyncio.to_thread, metrics.exposition)),
                openapi=encode(document(operations)),
            )
            yield

    # A list of its own: OpenTelemetry's integration subclasses the application to add to it.
    app = web.Application(middlewares=[*MIDDLEWARES], client_max_size=MAX_BODY_BYTES)
    app.cleanup_ctx.append(context)
    routes = routes_of(operations)
    app.add_routes([*routes, *with_trailing_slash(routes)])
    return app
