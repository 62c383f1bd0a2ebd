"""Which batches this worker is at, so that a cancel reaches them at once."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from batchd.domain.ids import BatchId


class Cancellations:
    """Passes the hint that a batch was cancelled to whoever works on it."""

    def __init__(self) -> None:
        self._waiting: defaultdict[BatchId, set[Callable[[], None]]] = defaultdict(set)

    def hear(self, batch: str) -> None:
        """Take a notification's payload; an empty one may have meant any batch."""
        named = [BatchId(UUID(batch))] if batch else list(self._waiting)
        for hint in [hint for each in named for hint in self._waiting.get(each, ())]:
            hint()

    @contextmanager
    def hinting(self, batch: BatchId, hint: Callable[[], None]) -> Iterator[None]:
        """Call `hint` when the batch is cancelled while the block runs."""
        self._waiting[batch].add(hint)
        try:
            yield
        finally:
            self._waiting[batch].discard(hint)
            if not self._waiting[batch]:
                del self._waiting[batch]
