"""Counts requests and measures their duration, by operation."""

from functools import cache

from prometheus_client import Counter, Histogram

from batchd.observability import metrics


def record(operation: str, status: int, seconds: float) -> None:
    """Count a request under the name of its route, which is empty if no route matches."""
    requests, durations = _of(operation, status)
    requests.inc()
    durations.observe(seconds)


@cache  # a few hundred at most: both come from short, fixed lists
def _of(operation: str, status: int) -> tuple[Counter, Histogram]:
    """Return the metrics themselves: looking them up by label takes longer than counting."""
    return metrics.REQUESTS.labels(operation, status), metrics.REQUEST_SECONDS.labels(operation)
