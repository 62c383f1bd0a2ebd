"""A worker's lease on a chunk: heartbeats renew it, record the progress, and detect its loss."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

from batchd.db import chunks
from batchd.domain.batches import Batch, LineCounts
from batchd.domain.chunks import Chunk
from batchd.domain.errors import ProcessingTimeout
from batchd.pipeline.context import PipelineContext

logger = logging.getLogger(__name__)

_HEARTBEAT_INTERVAL_S = 0.5


class Interruption(StrEnum):
    """Why no further line of a chunk may be started."""

    STOPPING = "the worker is stopping"
    EXPIRED = "the lease was not renewed in time"
    OVERFLOW = "the disk of the worker is full"
    REVOKED = "the batch was cancelled, or another worker has claimed the chunk"


class ChunkLease:
    """Also expires by the worker's clock: a worker that lost the database must stop by itself."""

    def __init__(
        self,
        context: PipelineContext,
        batch: Batch,
        chunk: Chunk,
        progress: Callable[[], tuple[LineCounts, int]],
        *,
        claimed_at: float,
    ) -> None:
        """`progress` returns what heartbeats report: line counts, and bytes of results.

        `claimed_at` is the monotonic time before the claim was sent: the lease began no earlier.
        """
        self._context = context
        self._batch = batch
        self._chunk = chunk
        self._progress = progress
        self._renewed_at = claimed_at
        self._heartbeat_now = asyncio.Event()
        self.interrupted = asyncio.Event()
        self.interruption: Interruption | None = None
        """Why the lease was interrupted: the first reason."""

    @property
    def expired(self) -> bool:
        return self._remaining_s <= 0

    @property
    def _remaining_s(self) -> float:
        lease_s = self._context.settings.lease_s
        return self._renewed_at + lease_s - self._context.clock.monotonic()

    def interrupt(self, interruption: Interruption) -> None:
        """Prevent further lines from being started."""
        if self.interruption is None:
            self.interruption = interruption
            self.interrupted.set()
            number, batch = self._chunk.number, self._batch.batch
            logger.info("chunk %d of batch %s is interrupted: %s", number, batch, interruption)

    @asynccontextmanager
    async def maintained(self) -> AsyncIterator[None]:
        """Send heartbeats while the block runs, and detect the expiry of the lease."""
        tasks = [
            asyncio.create_task(self._send_heartbeats()),
            asyncio.create_task(self._watch_expiry()),
        ]
        try:
            with self._context.cancellations.subscribed(self._batch.batch, self._heartbeat_now.set):
                yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _watch_expiry(self) -> None:
        """Interrupt the lease when it expires, even while a heartbeat waits for the database."""
        while not self.expired:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._remaining_s, _HEARTBEAT_INTERVAL_S)):
                    await self.interrupted.wait()
                    return
        self.interrupt(Interruption.EXPIRED)

    @property
    def _is_renewable(self) -> bool:
        return self.interruption not in {Interruption.EXPIRED, Interruption.REVOKED}

    async def _send_heartbeats(self) -> None:
        while self._is_renewable:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_INTERVAL_S):
                    await self._heartbeat_now.wait()
            self._heartbeat_now.clear()
            if self._is_renewable:
                try:
                    await self._heartbeat()
                except ProcessingTimeout:
                    pass  # logged; an outage does not stop the chunk before the lease has expired
                except Exception as error:  # noqa: BLE001  # what is finished must still be stored
                    logger.warning("a heartbeat failed: %r", error)

    async def _heartbeat(self) -> None:
        counts, size = self._progress()
        sent_at = self._context.clock.monotonic()
        async with self._context.database.connection() as connection:
            renewed = await chunks.heartbeat(
                connection,
                self._batch.batch,
                self._chunk,
                lease_s=self._context.settings.lease_s,
                counts=counts,
                size=size,
            )
        if renewed:
            self._renewed_at = sent_at
        else:
            self.interrupt(Interruption.REVOKED)
