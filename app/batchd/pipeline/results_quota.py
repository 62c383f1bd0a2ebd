"""The results quota: bounds the results of each batch, as far as one worker knows of them."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from batchd.db import chunks
from batchd.db.connection import Database
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ids import BatchId

logger = logging.getLogger(__name__)

_MAX_BATCHES = 1_000
"""Batches without a running chunk here whose size is known, so that not each chunk must ask."""
_MIN_GROWTH = 1024**2
_GROWTH_SHARE = 64
"""The database is asked again after a growth by this part of what was left."""


class HasSize(Protocol):
    """The results of a running chunk."""

    @property
    def size(self) -> int: ...


@dataclass(slots=True)
class _BatchResults:
    running: dict[int, HasSize] = field(default_factory=dict)
    """The results of the chunks that run here, by number."""
    others: int = 0
    """Bytes of the other chunks, as of the last question."""
    ask_at: int = 0
    """Size at which the database is asked again: other workers add to it."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def size(self) -> int:
        return self.others + sum(results.size for results in self.running.values())


class ResultsQuota:
    """Asks for the size of a batch's results when they have grown here, and counts in between.

    So a batch may exceed the limit by what the workers add between two questions, a small part.
    """

    def __init__(self, database: Database, *, limit: int) -> None:
        self._database = database
        self._batches: OrderedDict[BatchId, _BatchResults] = OrderedDict()
        self.limit = limit
        """Bytes."""

    @contextmanager
    def counting(self, batch: BatchId, chunk: int, results: HasSize) -> Iterator[None]:
        """Count the results of a chunk while the block runs it."""
        current = self._batches.setdefault(batch, _BatchResults())
        current.running[chunk] = results
        self._batches.move_to_end(batch)
        try:
            yield
        finally:
            current.others += results.size
            if current.running.get(chunk) is results:
                del current.running[chunk]
            self._forget_some()

    def _forget_some(self) -> None:
        for batch in [batch for batch, known in self._batches.items() if not known.running]:
            if len(self._batches) <= _MAX_BATCHES:
                return
            del self._batches[batch]

    async def is_exhausted(self, batch: BatchId) -> bool:
        """Return whether the batch, of which a chunk runs here, may have no further results."""
        known = self._batches[batch]
        if known.size >= known.ask_at:
            async with known.lock:
                if known.size >= known.ask_at:
                    await self._ask(batch, known)
        return known.size >= self.limit

    async def _ask(self, batch: BatchId, known: _BatchResults) -> None:
        try:
            async with self._database.connection() as connection:
                known.others = await chunks.sum_part_sizes(
                    connection, batch, excluded=list(known.running)
                )
        except ProcessingTimeout:
            logger.warning("the size of the results of batch %s is not known exactly", batch)
        left = max(0, self.limit - known.size)
        known.ask_at = known.size + max(_MIN_GROWTH, left // _GROWTH_SHARE)
