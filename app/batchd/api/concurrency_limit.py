"""Limits the requests that one API process serves at a time: more are refused, not queued."""

from collections.abc import Iterator
from contextlib import contextmanager

from batchd.domain.errors import ProcessingTimeout
from batchd.observability import metrics


class ConcurrencyLimit:
    """Entered for each request. There is no queue: in an overload it would only grow."""

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
        """Release the slot of a request that waits for its client, so that others are served.

        Raises ProcessingTimeout if no slot is free afterwards.
        """
        self._active -= 1
        try:
            yield
        finally:
            # Released in `__exit__`, even if the request fails here.
            self._active += 1
        if self._active > self._limit:
            metrics.SHED.inc()
            raise ProcessingTimeout("There are too many requests at once. Try again in a moment.")
