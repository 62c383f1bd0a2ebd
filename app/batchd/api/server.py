"""One API process: listens, serves, and shuts down gracefully."""

import asyncio
import gc
import logging
import os
from functools import partial

from aiohttp import web

from batchd.api.app import OpenServices, create_app
from batchd.api.context import CONTEXT
from batchd.api.open_files import allow_open_files
from batchd.api.protocol import ConnectionLimits, Server
from batchd.api.routes import allowed_methods
from batchd.settings import Settings

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_OTHER_FILES = 256
"""Files and connections of the process besides those of its clients."""
_GC_THRESHOLD = 20_000
"""New objects between two collections; Python's default is 700."""


class CannotListen(Exception):
    """The address is in use, or is not one of this machine."""


class Runner(web.AppRunner):
    """Runs the application on connections of our own protocol."""

    def __init__(
        self, app: web.Application, limits: ConnectionLimits, *, shutdown_timeout: float
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._limits = limits

    async def _make_server(self) -> web.Server:
        # The method that subclasses of `web.BaseRunner` implement.
        server = await super()._make_server()
        return Server(
            server,
            limits=self._limits,
            errors=self.app[CONTEXT].errors,
            allowed_methods=partial(allowed_methods, self.app.router),
        )


def runner_of(settings: Settings, app: web.Application) -> Runner:
    limits = ConnectionLimits(
        header_timeout_s=settings.header_timeout_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
        max_connections=settings.max_connections,
    )
    return Runner(app, limits, shutdown_timeout=settings.shutdown_timeout_s)


async def serve(settings: Settings, open_services: OpenServices, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Several processes may listen on the same port.

    Raises CannotListen.
    """
    runner = runner_of(settings, create_app(settings, open_services))
    try:
        await runner.setup()
        # Objects that exist by now stay. Scanning them would stop all requests for some 20 ms.
        gc.collect()
        gc.freeze()
        # Requests leave no garbage for the collector, but hundreds of them create enough objects
        # for it to run all the time.
        gc.set_threshold(_GC_THRESHOLD)
        allow_open_files(settings.max_connections + _OTHER_FILES)
        await _listen(runner, settings.listen)
        logger.info("listening on %s", settings.listen)
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, address: str) -> None:
    host, _, port = address.rpartition(":")
    site = web.TCPSite(runner, host.strip("[]"), int(port), reuse_port=True, backlog=_BACKLOG)
    try:
        await site.start()
    except OSError as error:
        # An error of name resolution has a negative number, and others a longer text.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        variable = Settings.variable("listen")
        raise CannotListen(f"{variable}: can't listen on {address}: {reason}") from error
