"""What the stages work with, and how one learns that it has been replaced."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from batchd.db import batches
from batchd.db.connection import Connection, Database
from batchd.domain.batches import Batch, Status
from batchd.domain.ids import BatchId
from batchd.domain.ports import Clock, Storage
from batchd.domain.storage_keys import batch_prefix
from batchd.pipeline.cancellations import Cancellations
from batchd.services.authorization import PermissionChecker
from batchd.services.operation_registry import OperationRegistry
from batchd.services.users import Users
from batchd.settings import Settings

_CHECK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineContext:
    database: Database
    storage: Storage
    permissions: PermissionChecker
    users: Users
    operations: OperationRegistry
    cancellations: Cancellations
    clock: Clock
    settings: Settings


class ClaimLost(Exception):
    """The batch has gone on without this worker: it was cancelled, or another worker has it."""


class StageClaim:
    """An attempt at a stage, as long as it is the valid one."""

    def __init__(self, context: PipelineContext, batch: Batch) -> None:
        self._context = context
        self._batch = batch
        self._checked = time.monotonic()

    async def check(self) -> None:
        """Raise ClaimLost if the batch has gone on. Asks the database twice a second at most."""
        if time.monotonic() - self._checked < _CHECK_EVERY_S:
            return
        batch = self._batch
        async with self._context.database.connection() as connection:
            held = await batches.is_claimed(
                connection, batch.batch, status=batch.status, attempt=batch.attempt
            )
        if not held:
            raise ClaimLost(f"{batch.batch} is no longer {batch.status} by attempt {batch.attempt}")
        self._checked = time.monotonic()


async def begin(context: PipelineContext, batch: BatchId, status: Status) -> Batch | None:
    """Take the batch for a new attempt at a stage; None if it is not there to be taken."""
    async with context.database.transaction() as connection:
        return await batches.claim(connection, batch, status, now=context.clock.now())


@asynccontextmanager
async def advance(
    context: PipelineContext, batch: Batch, status: Status, *, or_remove: str
) -> AsyncIterator[tuple[Connection, Batch]]:
    """Move the batch on by our attempt; the block records what belongs to it, all or nothing.

    If the batch has gone on without us, the file that was made for it is removed instead, and
    ClaimLost raised.
    """
    async with context.database.transaction() as connection:
        moved = await batches.move(
            connection, batch.batch, status, now=context.clock.now(), attempt=batch.attempt
        )
        if moved is not None:
            yield connection, moved
    if moved is None:
        await context.storage.delete([or_remove])
        raise ClaimLost(f"{batch.batch} was cancelled, or made {status} by another worker")


async def tidy(context: PipelineContext, batch: Batch, *, keep: str | None) -> None:
    """Remove the batch's files but one; also what workers left that died on the way."""
    prefix = batch_prefix(batch)
    unwanted = [key async for key in context.storage.list_keys(prefix) if key != keep]
    await context.storage.delete(unwanted)
