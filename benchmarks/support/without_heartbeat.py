"""`python without_heartbeat.py worker`: batchd without heartbeats of running chunks."""

from batchd.cli import main
from batchd.pipeline.chunks import lease

if __name__ == "__main__":
    lease._HEARTBEAT_INTERVAL_S = 3600.0  # noqa: SLF001  # to measure its cost
    main()
