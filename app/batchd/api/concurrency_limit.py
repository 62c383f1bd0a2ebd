"""How many requests one API process works on at once: more are refused at once, not queued."""

from batchd.domain.errors import ProcessingTimeout
from batchd.observability import metrics


class ConcurrencyLimit:
    """Entered for each request. What waits longer and longer helps nobody."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way = 0

    def __enter__(self) -> None:
        """Raise ProcessingTimeout if as many as may be are under way."""
        if self._under_way >= self._most:
            metrics.SHED.inc()
            raise ProcessingTimeout("There are too many requests at once. Try again in a moment.")
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        self._under_way -= 1
