"""The permission of a batch's creator to run its lines, refreshed while they run."""

import asyncio
import logging
import math
from contextlib import suppress

from batchd.domain.batches import Batch
from batchd.domain.errors import Unauthorized
from batchd.domain.users import Caller
from batchd.pipeline.chunks.lease import ChunkLease, Interruption
from batchd.pipeline.context import PipelineContext

logger = logging.getLogger(__name__)

_REFRESH_INTERVAL_S = 0.5
_MAX_AGE_S = 2.0
"""Maximum age of what the database returned when a call is started."""


class CreatorPermission:
    def __init__(self, context: PipelineContext, batch: Batch, lease: ChunkLease) -> None:
        self._context = context
        self._batch = batch
        self._lease = lease
        self._creator: Caller | Unauthorized = Unauthorized("The batch's creator is not known yet.")
        self._queried_at = -math.inf
        """When the database was queried, on the monotonic clock."""
        self._refreshed = asyncio.Event()
        """Set and replaced by each refresh."""

    async def require(self) -> Caller:
        """Return the creator, after checking that it may run the operation now.

        Wait while the database is unavailable. Raises the error that the line fails with, and
        CancelledError if no call may be started any more.
        """
        creator = await self._current_creator()
        await self._context.permissions.authorize(creator, self._batch.operation, self._batch)
        return creator

    async def _current_creator(self) -> Caller:
        while True:
            # After a freeze of the process the lines may run before the lease's own watch.
            if self._lease.expired:
                self._lease.interrupt(Interruption.EXPIRED)
            if self._lease.interruption is not None:
                raise asyncio.CancelledError(self._lease.interruption)
            if self._context.clock.monotonic() - self._queried_at <= _MAX_AGE_S:
                break
            await self._refreshed.wait()
        if isinstance(self._creator, Unauthorized):
            raise self._creator
        return self._creator

    async def refresh(self) -> None:
        """Load the current account and role of the creator. Raises ProcessingTimeout."""
        queried_at = self._context.clock.monotonic()
        try:
            self._creator = await self._context.users.current(self._batch.user)
        except Unauthorized as error:
            self._creator = error
        self._queried_at = queried_at
        self._wake()

    async def keep_fresh(self) -> None:
        """Refresh the permission until the lease is interrupted."""
        interrupted = self._lease.interrupted
        while not interrupted.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_REFRESH_INTERVAL_S):
                    await interrupted.wait()
            if not interrupted.is_set():
                try:
                    await self.refresh()
                except Exception as error:  # noqa: BLE001  # calls wait until a refresh succeeds
                    logger.warning("the permission could not be checked again: %r", error)
        self._wake()

    def _wake(self) -> None:
        self._refreshed.set()
        self._refreshed = asyncio.Event()
