"""What an operator can measure, in the form of Prometheus: every metric is defined here.

Where several processes share one address, set PROMETHEUS_MULTIPROC_DIR to an empty folder of
theirs: then each answers for all of them (https://prometheus.github.io/client_python/multiprocess/).
"""

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUESTS = Counter("batchd_requests", "Requests answered", ["operation", "status"])
REQUEST_SECONDS = Histogram(
    "batchd_request_seconds",
    "Time to answer a request",
    ["operation"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
SHED = Counter("batchd_requests_shed", "Requests refused because too many were under way")

LINES = Counter("batchd_lines", "Lines of batches run, by outcome", ["outcome"])
CHUNK_SECONDS = Histogram(
    "batchd_chunk_seconds",
    "Time a worker was at a chunk",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
TAKEOVERS = Counter("batchd_chunk_takeovers", "Chunks taken over from another worker")
REFUSED = Counter("batchd_chunk_refusals", "Results refused because another worker had the chunk")
STUCK = Counter("batchd_stuck", "Batches found without progress, by what was done", ["cure"])
GIVEN_UP = Counter("batchd_given_up", "Work ended because it failed again and again", ["stage"])
IN_TROUBLE = Gauge(
    "batchd_jobs_in_trouble",
    "Jobs that fail and are tried again, as the last round of the supervisor found them",
    multiprocess_mode="mostrecent",
)

POLICY_IN_FORCE = Gauge(
    "batchd_policy_in_force",
    "1: the policy on disk is the one in force; 0: it is not, because it is bad",
    multiprocess_mode="livemin",
)
POLICY_LOADS = Counter(
    "batchd_policy_loads", "States of the policy folder looked at, by outcome", ["outcome"]
)


def exposition() -> bytes:
    """Return the metrics of this process, or of all that share its folder."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(REGISTRY)
    _forget_the_dead(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_the_dead(folder: Path) -> None:
    """Remove what is true of a process only while it lives: it is left behind at the end."""
    for file in folder.glob("gauge_live*_*.db"):
        try:
            os.kill(int(file.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:
            pass  # it lives, as somebody else


def serve(address: str) -> None:
    """Serve the metrics at host:port, from a thread of their own: for a process without HTTP."""
    host, _, port = address.rpartition(":")
    start_http_server(int(port), addr=host.strip("[]"))
