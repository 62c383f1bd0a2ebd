"""The API and a worker in the test's own event loop, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import BaseTestServer

from batchd.api.serving import runner_of
from batchd.pipeline.worker import work
from batchd.services.container import Services
from batchd.settings import Settings


class LiveServer(BaseTestServer):
    """What `batchd api` runs, on a port of its own; pytest-aiohttp starts and stops it."""

    def __init__(self, settings: Settings, services: Services) -> None:
        super().__init__(host="127.0.0.1")
        self._settings = settings
        self._services = services

    async def _make_runner(self, **_: Any) -> web.ServerRunner:
        return runner_of(self._settings, self._services)


@asynccontextmanager
async def running_worker(settings: Settings, services: Services) -> AsyncIterator[None]:
    """Run what `batchd worker` runs."""
    stop = asyncio.Event()
    task = asyncio.create_task(work(settings, services, stop))
    try:
        yield
    finally:
        stop.set()
        await task
