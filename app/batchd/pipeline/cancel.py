"""cancel → cancelling → cancelled: stops what is running and keeps the results so far."""

from batchd.db import batches, chunks
from batchd.domain.batches import Batch, Status
from batchd.domain.ids import BatchId
from batchd.domain.storage_keys import copy_key
from batchd.pipeline.context import PipelineContext, advance
from batchd.pipeline.delete import bury_files
from batchd.pipeline.results import assemble_results
from batchd.queue import jobs
from batchd.queue.engine import RetryLater

_RECHECK_DELAY_S = 0.2


async def cancel(
    context: PipelineContext,
    batch_id: BatchId,
    *,
    allow_missing_parts: bool = False,
    read_copy: bool = True,
) -> None:
    """Wait until no chunk of the batch is running, then end the batch.

    Raises RetryLater while one is: its worker notices within half a second, or loses its lease.
    """
    batch = await stop_chunks(context, batch_id)
    if batch is None:
        return
    if batch.lines is None:
        await _end_unvalidated(context, batch)
    else:
        await assemble_results(
            context,
            batch,
            end=Status.CANCELLED,
            allow_missing_parts=allow_missing_parts,
            read_copy=read_copy,
        )


async def stop_chunks(context: PipelineContext, batch_id: BatchId) -> Batch | None:
    """Claim the cancelled batch and make sure that none of its chunks is running.

    Return None if it is not being cancelled (any more). Raises RetryLater while a chunk is running.
    """
    async with context.database.transaction() as connection:
        batch = await batches.claim(
            connection, batch_id, Status.CANCELLING, now=context.clock.now()
        )
    if batch is None:
        return None
    # Outside that transaction, which locks the batch. No chunk of a batch that is being cancelled
    # is claimed, and no lease is renewed.
    async with context.database.connection() as connection:
        await jobs.delete_queued_chunks(connection, batch_id)
        if await chunks.any_running(connection, batch_id):
            raise RetryLater(_RECHECK_DELAY_S)
        await chunks.fence(connection, batch_id)
    return batch


async def _end_unvalidated(context: PipelineContext, batch: Batch) -> None:
    """End a batch that was not validated: no line was run, and their number is unknown."""
    key = copy_key(batch)
    async with advance(context, batch, Status.CANCELLED, output_key=key) as (connection, ended):
        await batches.set_input(connection, batch.batch, key=None)
        await bury_files(context, connection, ended)
