"""The Prometheus metrics, every one of which is defined here, and their exposition.

Where several processes share one address, set PROMETHEUS_MULTIPROC_DIR to an empty folder for them:
each then exposes the metrics of all (https://prometheus.github.io/client_python/multiprocess/).
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

REQUESTS = Counter("batchd_requests", "Requests, by operation and status", ["operation", "status"])
REQUEST_SECONDS = Histogram(
    "batchd_request_seconds",
    "Duration of a request",
    ["operation"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
SHED = Counter("batchd_requests_shed", "Requests refused because of overload")
UNAUTHENTICATED_FAILURES = Counter(
    "batchd_unauthenticated_failures",
    "Failures of unauthenticated requests; the rate at which they are logged is limited",
    ["error"],
)
CONNECTIONS_CLOSED = Counter(
    "batchd_connections_closed", "Connections that batchd itself closed, by reason", ["reason"]
)
CONNECTIONS = Gauge("batchd_connections", "Connections that are open", multiprocess_mode="livesum")

LINES = Counter("batchd_lines", "Batch lines that were run, by outcome", ["outcome"])
CHUNK_SECONDS = Histogram(
    "batchd_chunk_seconds",
    "Time a worker spent on a chunk",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
TAKEOVERS = Counter("batchd_chunk_takeovers", "Chunks taken over from another worker")
REJECTED_RESULTS = Counter(
    "batchd_chunk_refusals", "Results rejected because another worker had claimed the chunk"
)
STUCK_BATCHES = Counter(
    "batchd_stuck", "Stuck batches recovered by the supervisor, by what was done", ["cure"]
)
BREAKER_OPEN = Gauge(
    "batchd_breaker_open",
    "1 while a worker claims no jobs because its storage access or its disk fails",
    multiprocess_mode="livemax",
)
UPSTREAM_BREAKER_OPEN = Gauge(
    "batchd_upstream_breaker_open",
    "1 while lines wait because the host of HTTP operations answers nobody",
    ["host"],
    multiprocess_mode="livemax",
)
UPSTREAM_CONCURRENCY = Gauge(
    "batchd_upstream_concurrency",
    "Concurrent calls that the host of HTTP operations gets, as found out by their duration",
    ["host"],
    multiprocess_mode="livesum",
)
DEAD_LETTERS = Counter("batchd_given_up", "Jobs dead-lettered because they kept failing", ["stage"])
FAILING_JOBS = Gauge(
    "batchd_jobs_in_trouble",
    "Failing jobs that are being retried, as of the supervisor's last round",
    multiprocess_mode="mostrecent",
)

POLICY_IN_FORCE = Gauge(
    "batchd_policy_in_force",
    "1 if the policy on disk is in effect; 0 if it is invalid and an earlier one is in effect",
    multiprocess_mode="livemin",
)
POLICY_LOADS = Counter("batchd_policy_loads", "Loads of the policy folder, by outcome", ["outcome"])


def exposition() -> bytes:
    """Return the metrics of this process, or of all processes that share its folder."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(REGISTRY)
    _delete_gauges_of_dead_processes(Path(folder))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _delete_gauges_of_dead_processes(folder: Path) -> None:
    """Delete the live gauges that processes left behind when they ended."""
    for file in folder.glob("gauge_live*_*.db"):
        try:
            os.kill(int(file.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
        except PermissionError:
            pass  # alive, run by another user


def serve(address: str) -> None:
    """Serve the metrics at host:port from a separate thread, for a process without HTTP."""
    host, _, port = address.rpartition(":")
    start_http_server(int(port), addr=host.strip("[]"))
