"""The results quota: bounds the size of each batch's results, as one worker measures it."""

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
"""Batches without a running chunk whose usage stays cached, to save chunks a query."""
_MIN_GROWTH = 1024**2
_GROWTH_SHARE = 64
"""The database is queried again after the results grow by this fraction of what remained."""


class HasSize(Protocol):
    """The results of a running chunk."""

    @property
    def size(self) -> int: ...


@dataclass(slots=True)
class _Usage:
    running: dict[int, HasSize] = field(default_factory=dict)
    """The results of the chunks that run here, by number."""
    other_bytes: int = 0
    """Bytes of the other chunks, as of the last query."""
    refresh_at: int = 0
    """Size at which the database is queried again: other workers add to it."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def size(self) -> int:
        return self.other_bytes + sum(results.size for results in self.running.values())


class ResultsQuota:
    """Queries the size of a batch's results when they have grown here, and counts in between.

    So a batch may exceed the limit by what the workers add between two queries: a small fraction.
    """

    def __init__(self, database: Database, *, limit: int) -> None:
        self._database = database
        self._batches: OrderedDict[BatchId, _Usage] = OrderedDict()
        self.limit = limit
        """Bytes."""

    @contextmanager
    def counting(self, batch: BatchId, chunk: int, results: HasSize) -> Iterator[None]:
        """Count the results of a chunk while the block runs it."""
        usage = self._batches.setdefault(batch, _Usage())
        usage.running[chunk] = results
        self._batches.move_to_end(batch)
        try:
            yield
        finally:
            usage.other_bytes += results.size
            if usage.running.get(chunk) is results:
                del usage.running[chunk]
            self._evict()

    def _evict(self) -> None:
        for batch in [batch for batch, usage in self._batches.items() if not usage.running]:
            if len(self._batches) <= _MAX_BATCHES:
                return
            del self._batches[batch]

    async def is_exhausted(self, batch: BatchId) -> bool:
        """Return whether the batch, of which a chunk runs here, may have no further results."""
        usage = self._batches[batch]
        if usage.size >= usage.refresh_at:
            async with usage.lock:
                if usage.size >= usage.refresh_at:
                    await self._refresh(batch, usage)
        return usage.size >= self.limit

    async def _refresh(self, batch: BatchId, usage: _Usage) -> None:
        try:
            async with self._database.connection() as connection:
                usage.other_bytes = await chunks.sum_part_sizes(
                    connection, batch, excluded=list(usage.running)
                )
        except ProcessingTimeout:
            logger.warning("the size of the results of batch %s is not known exactly", batch)
        remaining = max(0, self.limit - usage.size)
        usage.refresh_at = usage.size + max(_MIN_GROWTH, remaining // _GROWTH_SHARE)
