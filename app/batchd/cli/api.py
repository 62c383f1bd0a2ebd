"""`batchd api`: one process of the API; run one per core."""

from functools import partial

from batchd.api import serving
from batchd.bootstrap import open_services
from batchd.cli.runner import Stop, serve
from batchd.settings import Settings


def api() -> None:
    """Serve the API; several processes may share the port."""
    serve(_serve)


async def _serve(settings: Settings, stop: Stop) -> None:
    await serving.serve(settings, partial(open_services, settings), stop)
