"""new → copying → copied: the upload is taken to where no client can write."""

import hashlib

from batchd.db import batches
from batchd.domain.batches import Batch, Status
from batchd.domain.errors import General
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.ports import ObjectMissing
from batchd.domain.storage_keys import copy_key, upload_key
from batchd.pipeline.context import PipelineContext, StageClaim, advance, begin, tidy
from batchd.queue import jobs


async def copy(context: PipelineContext, batch_id: BatchId) -> None:
    """Copy the upload and hold the copy against the hash; what runs later is what was hashed."""
    batch = await begin(context, batch_id, Status.COPYING)
    if batch is None:
        return
    sha256, problem = await _copy(context, batch)
    if problem is None and batch.hash not in {None, sha256}:
        # Before the status says so: a batch with a mismatch has no copy.
        await tidy(context, batch, keep=None)
        async with context.database.transaction() as connection:
            await batches.move(
                connection,
                batch_id,
                Status.HASH_MISMATCH,
                now=context.clock.now(),
                attempt=batch.attempt,
            )
    else:
        await _keep(context, batch, problem)
    await context.storage.delete([upload_key(batch.account, batch.handler)])


async def give_up_copy(context: PipelineContext, batch_id: BatchId) -> None:
    """Let the validation report tell that there is no copy."""
    batch = await begin(context, batch_id, Status.COPYING)
    if batch is not None:
        await _keep(context, batch, General.name)


async def _copy(context: PipelineContext, batch: Batch) -> tuple[str, str | None]:
    """Return the SHA-256 of the copy, and what is wrong with the upload as a whole."""
    hold = StageClaim(context, batch)
    digest = hashlib.sha256()
    size = 0
    try:
        async with (
            context.storage.read(upload_key(batch.account, batch.handler)) as pieces,
            context.storage.write(copy_key(batch)) as writer,
        ):
            async for piece in pieces:
                await hold.check()
                size += len(piece)
                if size > context.settings.max_file_bytes:
                    # It has grown since create_batch looked at it.
                    return digest.hexdigest(), "quota_violation"
                digest.update(piece)
                await writer.write(piece)
    except ObjectMissing:
        return digest.hexdigest(), "not_found"
    return digest.hexdigest(), None


async def _keep(context: PipelineContext, batch: Batch, problem: str | None) -> None:
    key = copy_key(batch)
    async with advance(context, batch, Status.COPIED, or_remove=key) as (connection, copied):
        await batches.set_input(connection, batch.batch, key=key, problem=problem)
        await jobs.enqueue(connection, copied, [Job(Stage.VALIDATE, batch.batch)])
