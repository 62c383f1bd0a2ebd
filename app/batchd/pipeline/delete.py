"""What is not needed any more: of a batch at an end all but its download, of a deleted one all."""

from batchd.db import batches
from batchd.domain.batches import END_STATUSES, Status
from batchd.domain.ids import BatchId
from batchd.pipeline.context import PipelineContext, tidy


async def tidy_up(context: PipelineContext, batch_id: BatchId) -> None:
    """Remove the files of a batch at an end but what can be downloaded."""
    async with context.database.connection() as connection:
        batch = await batches.find_any(connection, batch_id)
    if batch is not None and batch.status in END_STATUSES:
        await tidy(context, batch, keep=batch.download_key)


async def remove(context: PipelineContext, batch_id: BatchId) -> None:
    async with context.database.connection() as connection:
        batch = await batches.find_any(connection, batch_id)
    if batch is None or batch.status is not Status.DELETING:
        return
    await tidy(context, batch, keep=None)
    async with context.database.transaction() as connection:
        await batches.delete(connection, batch_id)
