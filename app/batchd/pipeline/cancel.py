"""cancel → cancelling → cancelled: what runs is stopped, what was done is kept."""

from batchd.db import batches, chunks
from batchd.domain.batches import Batch, Status
from batchd.domain.ids import BatchId
from batchd.domain.storage_keys import upload_key
from batchd.pipeline.context import PipelineContext, tidy
from batchd.pipeline.results import assemble
from batchd.queue import jobs
from batchd.queue.engine import TryLater

_LOOK_AGAIN_S = 0.2


async def cancel(context: PipelineContext, batch_id: BatchId, *, salvage: bool = False) -> None:
    """Wait until no chunk of the batch is running, then end it.

    Raises TryLater while one is: its worker notices within half a second, or loses its lease.
    """
    async with context.database.transaction() as connection:
        batch = await batches.claim(
            connection, batch_id, Status.CANCELLING, now=context.clock.now()
        )
        if batch is None:
            return
        await jobs.drop_chunks(connection, batch_id)
        running = await chunks.any_running(connection, batch_id)
        if not running:
            await chunks.fence(connection, batch_id)
    if running:
        raise TryLater(_LOOK_AGAIN_S)
    if batch.lines is None:
        await _end_unvalidated(context, batch)
    else:
        await assemble(context, batch, end=Status.CANCELLED, salvage=salvage)


async def _end_unvalidated(context: PipelineContext, batch: Batch) -> None:
    """Nothing was run, nor is it known what would have been: there are no results."""
    await tidy(context, batch, keep=None)
    async with context.database.transaction() as connection:
        await batches.move(
            connection,
            batch.batch,
            Status.CANCELLED,
            now=context.clock.now(),
            attempt=batch.attempt,
        )
        await batches.set_input(connection, batch.batch, key=None)
    await context.storage.delete([upload_key(batch.account, batch.handler)])
