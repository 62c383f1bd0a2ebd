"""`batchd worker`: one worker of the fleet."""

import os

from batchd.api.server import CannotListen
from batchd.bootstrap import open_components
from batchd.cli.runner import Stop, serve, warn_of_unknown_variables
from batchd.observability import metrics
from batchd.pipeline.worker import work
from batchd.settings import Settings


def worker() -> None:
    """Run batches."""
    serve(_work)


def _serve_metrics(address: str) -> None:
    try:
        metrics.serve(address)
    except OSError as error:
        variable = Settings.variable("metrics_listen")
        raise CannotListen(f"{variable}: can't listen on {address}: {error.strerror}") from error


async def _work(settings: Settings, stop: Stop) -> None:
    if settings.metrics_listen is not None:
        _serve_metrics(settings.metrics_listen)
    async with open_components(settings, environment=os.environ) as components:
        warn_of_unknown_variables(os.environ)
        await work(settings, components.database, components.dispatcher, stop)
