"""`python without_pulse.py worker`: batchd, but no chunk tells of its progress while it runs."""

from batchd.cli import main
from batchd.pipeline.chunks import lease

if __name__ == "__main__":
    lease._HEARTBEAT_INTERVAL_S = 3600.0  # noqa: SLF001  # what is measured is what it costs
    main()
