"""The API and a worker in the test's own event loop, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from aiohttp import web
from aiohttp.test_utils import BaseTestServer

from batchd.api.app import create_app
from batchd.api.server import runner_of
from batchd.bootstrap import Components
from batchd.operations.table import OPERATIONS, AnyOperation
from batchd.pipeline.worker import work
from batchd.settings import Settings


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
