"""Deletion: the unneeded files of a batch at an end, and everything of a batch being deleted."""

from batchd.db import batches
from batchd.domain.batches import END_STATUSES, Status
from batchd.domain.ids import BatchId
from batchd.pipeline.context import PipelineContext, delete_files


async def delete_unneeded_files(context: PipelineContext, batch_id: BatchId) -> None:
    """Delete the files of a batch at an end, except its download."""
    async with context.database.connection() as connection:
        batch = await batches.find_unscoped(connection, batch_id)
    if batch is not None and batch.status in END_STATUSES:
        await delete_files(context, batch, keep=batch.download_key)


async def delete(context: PipelineContext, batch_id: BatchId) -> None:
    """Delete the files and then the row of a batch in status deleting."""
    async with context.database.connection() as connection:
        batch = await batches.find_unscoped(connection, batch_id)
    if batch is None or batch.status is not Status.DELETING:
        return
    await delete_files(context, batch, keep=None)
    async with context.database.transaction() as connection:
        await batches.delete(connection, batch_id)
