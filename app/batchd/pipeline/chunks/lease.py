"""A worker's lease on a chunk: heartbeats renew it, record the progress, and detect its loss."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from batchd.db import chunks
from batchd.domain.batches import Batch, LineCounts
from batchd.domain.chunks import Chunk
from batchd.domain.errors import ProcessingTimeout
from batchd.pipeline.context import PipelineContext

_HEARTBEAT_INTERVAL_S = 0.5


class ChunkLease:
    def __init__(
        self, context: PipelineContext, batch: Batch, chunk: Chunk, counts: Callable[[], LineCounts]
    ) -> None:
        self._context = context
        self._batch = batch
        self._chunk = chunk
        self._counts = counts
        self._heartbeat_now = asyncio.Event()
        self.lost = asyncio.Event()
        """Set when the batch is cancelled or another worker has claimed the chunk."""

    @asynccontextmanager
    async def maintained(self) -> AsyncIterator[None]:
        """Send heartbeats while the block runs."""
        heartbeats = asyncio.create_task(self._send_heartbeats())
        try:
            with self._context.cancellations.subscribed(self._batch.batch, self._heartbeat_now.set):
                yield
        finally:
            heartbeats.cancel()
            with suppress(asyncio.CancelledError):
                await heartbeats

    async def _send_heartbeats(self) -> None:
        while not self.lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_INTERVAL_S):
                    await self._heartbeat_now.wait()
            self._heartbeat_now.clear()
            # An outage of the database does not stop the chunk: at worst it lasts until the lease
            # has expired, and the results are refused.
            with suppress(ProcessingTimeout):
                if not await self._heartbeat():
                    self.lost.set()

    async def _heartbeat(self) -> bool:
        async with self._context.database.connection() as connection:
            return await chunks.heartbeat(
                connection,
                self._batch.batch,
                self._chunk,
                lease_s=self._context.settings.lease_s,
                counts=self._counts(),
            )
