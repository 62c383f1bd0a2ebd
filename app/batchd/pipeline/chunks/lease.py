"""A worker's hold on a chunk: its pulse renews the lease, tells progress, and learns of the end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from batchd.db import chunks
from batchd.domain.batches import Batch, LineCounts
from batchd.domain.chunks import Chunk
from batchd.domain.errors import ProcessingTimeout
from batchd.pipeline.context import PipelineContext

_PULSE_S = 0.5


class ChunkLease:
    def __init__(
        self, context: PipelineContext, batch: Batch, chunk: Chunk, tally: Callable[[], LineCounts]
    ) -> None:
        self._context = context
        self._batch = batch
        self._chunk = chunk
        self._tally = tally
        self._hint = asyncio.Event()
        self.lost = asyncio.Event()
        """Set when the chunk is not ours any more: the batch is cancelled, or another has it."""

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep the chunk while the block runs."""
        beating = asyncio.create_task(self._beat())
        try:
            with self._context.cancellations.hinting(self._batch.batch, self._hint.set):
                yield
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    async def _beat(self) -> None:
        while not self.lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_PULSE_S):
                    await self._hint.wait()
            self._hint.clear()
            # A database that is away does not stop us: if it stays away until the lease has run
            # out, what we write may be refused, no more.
            with suppress(ProcessingTimeout):
                if not await self._pulse():
                    self.lost.set()

    async def _pulse(self) -> bool:
        async with self._context.database.connection() as connection:
            return await chunks.heartbeat(
                connection,
                self._batch.batch,
                self._chunk,
                lease_s=self._context.settings.lease_s,
                tally=self._tally(),
            )
