"""`batchd api`: one process of the API; run one per core."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batchd.api import server
from batchd.api.app import OpenServices, create_app
from batchd.bootstrap import open_components
from batchd.cli.runner import Stop, serve, warn_of_unknown_variables
from batchd.observability import logs
from batchd.services.container import Services
from batchd.settings import Settings, read_core_settings


def api() -> None:
    """Serve the API; several processes may share the port."""
    serve(_serve)


async def gunicorn_runner() -> server.Runner:
    """Return what gunicorn's aiohttp worker runs.

    `gunicorn batchd.cli.api:gunicorn_runner --worker-class aiohttp.GunicornUVLoopWebWorker`.
    Raises InvalidSettings.
    """
    settings = read_core_settings()
    logs.configure(settings.log_level)
    return server.runner_of(settings, create_app(settings, _open_services(settings)))


async def _serve(settings: Settings, stop: Stop) -> None:
    await server.serve(settings, _open_services(settings), stop)


def _open_services(settings: Settings) -> OpenServices:
    @asynccontextmanager
    async def open_services() -> AsyncIterator[Services]:
        async with open_components(settings, environment=os.environ) as components:
            warn_of_unknown_variables(os.environ)
            yield components.services

    return open_services
