"""Counts answers and takes their times, by operation."""

from functools import cache

from prometheus_client import Counter, Histogram

from batchd.observability import metrics


def record(operation: str, status: int, seconds: float) -> None:
    """Count an answer under the name of its route; what no route takes has none."""
    requests, durations = _of(operation, status)
    requests.inc()
    durations.observe(seconds)


@cache  # a few hundred at most: both come from short lists of ours
def _of(operation: str, status: int) -> tuple[Counter, Histogram]:
    """Return the metrics themselves: looking them up by label takes longer than counting."""
    return metrics.REQUESTS.labels(operation, status), metrics.REQUEST_SECONDS.labels(operation)
