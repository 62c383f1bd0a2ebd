"""Counts answers and takes their times, by operation."""

from functools import cache

from aiohttp import web
from prometheus_client import Counter, Histogram

from batchd import metrics


def record(request: web.BaseRequest, status: int, seconds: float) -> None:
    """Count an answer under the name of its route; what no route takes has none."""
    found = getattr(request, "_match_info", None)  # match_info insists on being there
    answered, took = _of("" if found is None else found.route.name or "", status)
    answered.inc()
    took.observe(seconds)


@cache  # a few hundred at most: both come from short lists of ours
def _of(operation: str, status: int) -> tuple[Counter, Histogram]:
    """Return the metrics themselves: looking them up by label takes longer than counting."""
    return metrics.REQUESTS.labels(operation, status), metrics.REQUEST_SECONDS.labels(operation)
