"""The API and a worker in the test's own event loop, over real sockets."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import uvloop
from aiohttp import web
from aiohttp.test_utils import BaseTestServer

from batchd.api.app import create_app
from batchd.api.server import runner_of
from batchd.bootstrap import Components, open_components
from batchd.domain.ports import Clock
from batchd.operations.table import OPERATIONS, AnyOperation
from batchd.pipeline.worker import work
from batchd.settings import Settings
from tests.support.polling import TIMEOUT_S


class LiveServer(BaseTestServer):
    """What `batchd api` runs, on a port of its own."""

    def __init__(
        self,
        settings: Settings,
        components: Components,
        operations: Sequence[AnyOperation] = OPERATIONS,
    ) -> None:
        super().__init__(host="127.0.0.1")
        self._settings = settings
        self._app = create_app(
            settings, lambda: nullcontext(components.services), operations=operations
        )

    async def _make_runner(self, **_: Any) -> web.AppRunner:
        return runner_of(self._settings, self._app)


@contextmanager
def server_on_uvloop(
    settings: Settings, environment: Mapping[str, str], clock: Clock
) -> Iterator[str]:
    """Serve from a thread on the event loop of `batchd api`, whose transports are not asyncio's."""
    url: Future[str] = Future()
    loop = uvloop.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with open_components(settings, environment=environment, clock=clock) as components:
            server = LiveServer(settings, components)
            await server.start_server()
            url.set_result(str(server.make_url("")).rstrip("/"))
            await stop.wait()
            await server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield url.result(timeout=TIMEOUT_S)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@asynccontextmanager
async def running_worker(settings: Settings, components: Components) -> AsyncIterator[None]:
    """Run what `batchd worker` runs."""
    stop = asyncio.Event()
    task = asyncio.create_task(work(settings, components.database, components.dispatcher, stop))
    try:
        yield
    finally:
        stop.set()
        await task
