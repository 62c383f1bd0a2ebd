"""Cancellation notices: passed on at once to the tasks that work on the cancelled batch."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from batchd.domain.ids import BatchId


class Cancellations:
    """The callbacks of one process, by the batch they are subscribed to."""

    def __init__(self) -> None:
        self._callbacks: defaultdict[BatchId, set[Callable[[], None]]] = defaultdict(set)

    def on_notification(self, payload: str) -> None:
        """Call back for the batch named by the payload, or for all if it is empty.

        After an empty payload any notification may have been missed.
        """
        batches = [BatchId(UUID(payload))] if payload else list(self._callbacks)
        for callback in [each for batch in batches for each in self._callbacks.get(batch, ())]:
            callback()

    @contextmanager
    def subscribed(self, batch: BatchId, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` whenever the batch is cancelled while the block runs."""
        self._callbacks[batch].add(callback)
        try:
            yield
        finally:
            self._callbacks[batch].discard(callback)
            if not self._callbacks[batch]:
                del self._callbacks[batch]
