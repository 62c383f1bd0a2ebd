"""How many requests one API process serves at once: more are refused at once, not queued."""

from collections.abc import Iterator
from contextlib import contextmanager

from batchd.domain.errors import ProcessingTimeout
from batchd.observability import metrics


class ConcurrencyLimit:
    """Entered for each request: a queue that only grows helps nobody."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._active = 0

    def __enter__(self) -> None:
        """Raise ProcessingTimeout if as many requests as allowed are being served."""
        if self._active >= self._limit:
            metrics.SHED.inc()
            raise ProcessingTimeout("There are too many requests at once. Try again in a moment.")
        self._active += 1

    def __exit__(self, *_: object) -> None:
        self._active -= 1

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Free the slot of a request that waits for its client, so that others are served.

        Raises ProcessingTimeout if the slot cannot be had again afterwards.
        """
        self._active -= 1
        try:
            yield
        finally:
            # Left by the request itself in `__exit__`, also when it fails here.
            self._active += 1
        if self._active > self._limit:
            metrics.SHED.inc()
            raise ProcessingTimeout("There are too many requests at once. Try again in a moment.")
