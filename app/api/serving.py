"""One API process: listens, serves, and ends what it has begun."""

import asyncio
import gc
import logging
import os

from aiohttp import web

from batchd.api.app import OpenServices, create_app
from batchd.api.server import Runner
from batchd.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 1024


class CannotListen(Exception):
    """The address is taken, or not one of this machine."""


def runner_of(settings: Settings, open_services: OpenServices) -> Runner:
    """Return the runner that serves the API."""
    return Runner(
        create_app(settings, open_services),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=settings.shutdown_timeout_s,
    )


async def serve(settings: Settings, open_services: OpenServices, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Several processes may listen on the same port.

    Raises CannotListen.
    """
    runner = runner_of(settings, open_services)
    await runner.setup()
    # What is there by now stays. Going through it again stops all requests for some 20 ms.
    gc.collect()
    gc.freeze()
    try:
        await _listen(runner, settings.listen)
        logger.info("listening on %s", settings.listen)
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: Runner, address: str) -> None:
    host, _, port = address.rpartition(":")
    site = web.TCPSite(runner, host.strip("[]"), int(port), reuse_port=True, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(f"can't listen on {address}: {reason}") from error
