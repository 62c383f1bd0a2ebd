"""deleting: the files of a batch go, then its row."""

from batchd.db import batches
from batchd.domain.batches import Status
from batchd.domain.ids import BatchId
from batchd.services.stages.context import Context, tidy


async def remove(context: Context, batch_id: BatchId) -> None:
    async with context.database.connection() as connection:
        batch = await batches.find_any(connection, batch_id)
    if batch is None or batch.status is not Status.DELETING:
        return
    await tidy(context, batch, keep=None)
    async with context.database.transaction() as connection:
        await batches.delete(connection, batch_id)
