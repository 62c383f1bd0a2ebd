"""`batchd api`: one process of the API; run one per core."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batchd.api import server
from batchd.bootstrap import open_components
from batchd.cli.runner import Stop, serve, warn_of_unknown_variables
from batchd.services.container import Services
from batchd.settings import Settings


def api() -> None:
    """Serve the API; several processes may share the port."""
    serve(_serve)


async def _serve(settings: Settings, stop: Stop) -> None:
    @asynccontextmanager
    async def open_services() -> AsyncIterator[Services]:
        async with open_components(settings, environment=os.environ) as components:
            warn_of_unknown_variables(os.environ)
            yield components.services

    await server.serve(settings, open_services, stop)
