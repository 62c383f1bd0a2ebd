"""Deletion: the unneeded files of an ended batch, and everything of a batch being deleted.

No stage deletes what another attempt may have written or may still need. A failover to a standby
that lags, or a restored backup, turns back time: an ended batch is then being processed again, and
needs its input and its parts. So files are buried in the transaction that makes them garbage, and
deleted once no database can be that far behind.
"""

from batchd.db import batches, graveyard
from batchd.db.connection import Connection
from batchd.db.graveyard import Grave
from batchd.domain.batches import END_STATUSES, Batch
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.storage_keys import batch_prefix, upload_key
from batchd.pipeline.context import PipelineContext
from batchd.queue import jobs


async def bury_files(context: PipelineContext, connection: Connection, batch: Batch) -> None:
    """Have the batch's unneeded files deleted after BATCHD_GRAVEYARD_S, if this is committed."""
    delay_s = context.settings.graveyard_s
    await graveyard.insert(connection, batch, delay_s=delay_s)
    if delay_s == 0:  # otherwise the supervisor queues the job when it is due
        await jobs.enqueue(connection, batch, [Job(Stage.CLEANUP, batch.batch)])


async def delete_unneeded_files(context: PipelineContext, batch_id: BatchId) -> None:
    """Delete all files of a deleted batch, or those of an ended batch except its download."""
    async with context.database.connection() as connection:
        batch = await batches.find_unscoped(connection, batch_id)
        grave = await graveyard.find(connection, batch_id)
    if batch is None:
        if grave is not None:
            await _delete_files(context, grave, keep=None)
    elif batch.status in END_STATUSES:
        # The previous version queued the job without a grave.
        owner = Grave(batch=batch_id, account=batch.account, handler=batch.handler)
        await _delete_files(context, grave or owner, keep=batch.download_key)
    if grave is not None:
        async with context.database.connection() as connection:
            await graveyard.delete(connection, grave)


async def _delete_files(context: PipelineContext, grave: Grave, *, keep: str | None) -> None:
    """Delete the batch's files except one, including those that dead workers left behind."""
    prefix = batch_prefix(grave.account, grave.batch)
    keys = [key async for key in context.storage.list_keys(prefix) if key != keep]
    await context.storage.delete([*keys, upload_key(grave.account, grave.handler)])


async def delete(context: PipelineContext, batch_id: BatchId) -> None:
    """Delete the row of a batch in status deleting, and bury its files."""
    async with context.database.transaction() as connection:
        batch = await batches.delete(connection, batch_id)
        if batch is not None:
            await bury_files(context, connection, batch)
