"""The dependencies of the stages, and a worker's claim on the stage of a batch."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from batchd.db import batches
from batchd.db.connection import Connection, Database
from batchd.domain.batches import Batch, Status
from batchd.domain.ids import BatchId
from batchd.domain.ports import Clock, Storage
from batchd.pipeline.cancellations import Cancellations
from batchd.pipeline.circuit_breaker import CircuitBreaker
from batchd.pipeline.results_quota import ResultsQuota
from batchd.services.authorization import PermissionChecker
from batchd.services.memory_budget import ProcessMemoryBudget
from batchd.services.operation_registry import OperationRegistry
from batchd.services.users import Users
from batchd.settings import Settings

_CHECK_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineContext:
    database: Database
    storage: Storage
    permissions: PermissionChecker
    users: Users
    operations: OperationRegistry
    cancellations: Cancellations
    breaker: CircuitBreaker
    memory: ProcessMemoryBudget
    """For the lines and the results of all running chunks."""
    results_quota: ResultsQuota
    clock: Clock
    settings: Settings


class ClaimLost(Exception):
    """The batch was cancelled, or another worker has claimed or completed the stage."""


class StageClaim:
    """A worker's claim on a stage, valid until the batch advances or is claimed again."""

    def __init__(self, context: PipelineContext, batch: Batch) -> None:
        self._context = context
        self._batch = batch
        self._checked_at = time.monotonic()

    async def check(self) -> None:
        """Raise ClaimLost if the claim is lost. Queries the database at most twice a second."""
        if time.monotonic() - self._checked_at < _CHECK_INTERVAL_S:
            return
        batch = self._batch
        async with self._context.database.connection() as connection:
            valid = await batches.is_claimed(
                connection, batch.batch, status=batch.status, fencing_token=batch.fencing_token
            )
        if not valid:
            raise ClaimLost(
                f"batch {batch.batch} is no longer in {batch.status}, or claimed by another worker"
            )
        self._checked_at = time.monotonic()


async def claim(context: PipelineContext, batch_id: BatchId, status: Status) -> Batch | None:
    """Claim a stage by changing to its status; None if its current status does not permit that."""
    async with context.database.transaction() as connection:
        return await batches.claim(connection, batch_id, status, now=context.clock.now())


@asynccontextmanager
async def advance(
    context: PipelineContext, batch: Batch, status: Status, *, output_key: str
) -> AsyncIterator[tuple[Connection, Batch]]:
    """Change the status of a claimed batch, and run the block in the same transaction.

    If the claim is lost, delete the stage's output file, which no row names, and raise ClaimLost.
    """
    async with context.database.transaction() as connection:
        advanced = await batches.transition(
            connection,
            batch.batch,
            status,
            now=context.clock.now(),
            fencing_token=batch.fencing_token,
        )
        if advanced is not None:
            yield connection, advanced
    if advanced is None:
        await context.storage.delete([output_key])
        raise ClaimLost(f"batch {batch.batch} was cancelled, or advanced by another worker")
