"""One API process: listens, serves, and ends what it has begun."""

import asyncio
import gc
import logging
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from batchd.api.concurrency_limit import ConcurrencyLimit
from batchd.api.context import AppContext
from batchd.api.openapi import document
from batchd.api.rate_limit import RateLimit
from batchd.api.server import Server
from batchd.operations.parsing import encode
from batchd.services.container import Services
from batchd.settings import Settings

logger = logging.getLogger(__name__)

OpenServices = Callable[[], AbstractAsyncContextManager[Services]]

_BACKLOG = 1024
_GC_THRESHOLD = 20_000
"""Objects more than at the last look; Python's own number is 700."""


class CannotListen(Exception):
    """The address is taken, or not one of this machine."""


def runner_of(settings: Settings, services: Services) -> web.ServerRunner:
    """Return the runner that serves the API."""
    state = AppContext(
        services=services,
        overload=ConcurrencyLimit(settings.max_requests),
        rate_limit=RateLimit(settings.rate_per_s),
        body_timeout_s=settings.body_timeout_s,
        openapi=encode(document()),
    )
    return web.ServerRunner(Server(state), shutdown_timeout=settings.shutdown_timeout_s)


async def serve(settings: Settings, open_services: OpenServices, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Several processes may listen on the same port.

    Raises CannotListen.
    """
    async with open_services() as services:
        runner = runner_of(settings, services)
        await runner.setup()
        # What is there by now stays. Going through it again stops all requests for some 20 ms.
        gc.collect()
        gc.freeze()
        # Requests leave nothing behind for the collector, but by the hundred they are enough for it
        # to look for it all the time.
        gc.set_threshold(_GC_THRESHOLD)
        try:
            await _listen(runner, settings.listen)
            logger.info("listening on %s", settings.listen)
            await stop.wait()
        finally:
            await runner.cleanup()


async def _listen(runner: web.ServerRunner, address: str) -> None:
    host, _, port = address.rpartition(":")
    site = web.TCPSite(runner, host.strip("[]"), int(port), reuse_port=True, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(f"can't listen on {address}: {reason}") from error
