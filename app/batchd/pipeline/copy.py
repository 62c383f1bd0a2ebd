"""new → copying → copied: copies the upload to storage that no client can write to."""

import hashlib
import logging

from batchd.db import batch_failures, batches, incarnation, uploads
from batchd.domain.batches import Batch, Status
from batchd.domain.errors import General
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.ports import ObjectChanged, ObjectMissing
from batchd.domain.storage_keys import copy_key, upload_key
from batchd.pipeline.context import PipelineContext, StageClaim, advance, claim
from batchd.pipeline.delete import bury_files
from batchd.queue import jobs

logger = logging.getLogger(__name__)


async def copy(context: PipelineContext, batch_id: BatchId) -> None:
    """Copy the upload and check the hash of the copy, whose lines will be run."""
    batch = await claim(context, batch_id, Status.COPYING)
    if batch is None:
        return
    sha256, problem = await _copy_upload(context, batch)
    if problem is None and batch.hash not in {None, sha256}:
        await _end_mismatched(context, batch, sha256)
    else:
        await _mark_copied(context, batch, problem)


async def dead_letter_copy(context: PipelineContext, batch_id: BatchId) -> None:
    """End the stage without a copy, which the validation report will state."""
    batch = await claim(context, batch_id, Status.COPYING)
    if batch is not None:
        await _mark_copied(context, batch, General.name)


async def _copy_upload(context: PipelineContext, batch: Batch) -> tuple[str, str | None]:
    """Return the SHA-256 of the copy, and the issue code of the file if it can't be run.

    The file can be uploaded again until its URL expires. The copy must have the hash given to
    create_batch or, without one, the entity tag that the file had then.
    """
    stage_claim = StageClaim(context, batch)
    digest = hashlib.sha256()
    size = 0
    if batch.input_size > context.settings.max_file_bytes:
        return digest.hexdigest(), "quota_violation"
    etag = None
    if batch.hash is None:
        async with context.database.connection() as connection:
            etag = await uploads.find_etag(connection, batch.handler)
    try:
        async with (
            context.storage.read(upload_key(batch.account, batch.handler), etag=etag) as pieces,
            context.storage.write(
                copy_key(batch), expected_bytes=context.settings.max_file_bytes
            ) as writer,
        ):
            async for piece in pieces:
                await stage_claim.check()
                size += len(piece)
                if size > context.settings.max_file_bytes:
                    # The file was uploaded again after create_batch had checked its size.
                    return digest.hexdigest(), "quota_violation"
                digest.update(piece)
                await writer.write(piece)
    except ObjectMissing:
        return digest.hexdigest(), "not_found"
    except ObjectChanged:
        return digest.hexdigest(), "operation_order_violation"
    return digest.hexdigest(), None


async def _end_mismatched(context: PipelineContext, batch: Batch, sha256: str) -> None:
    """End the batch without a copy, deleting only the copy of this attempt.

    Another attempt may have completed the batch meanwhile. The upload and the files of other
    attempts are buried if this attempt ends the batch.
    """
    key = copy_key(batch)
    await context.storage.delete([key])
    status = Status.HASH_MISMATCH
    async with advance(context, batch, status, output_key=key) as (connection, ended):
        await batch_failures.set_upload_hash(connection, batch.batch, sha256)
        await bury_files(context, connection, ended)
    logger.info(
        "batch %s ended as hash_mismatch: its upload has the SHA-256 %s, and %s was given",
        *(batch.batch, sha256, batch.hash),
    )


async def _mark_copied(context: PipelineContext, batch: Batch, problem: str | None) -> None:
    key = copy_key(batch)
    async with advance(context, batch, Status.COPIED, output_key=key) as (connection, copied):
        await batches.set_input(connection, batch.batch, key=key, problem=problem)
        # Results are stored under keys that tell the copy: there are none of this one yet.
        await incarnation.record(connection, batch.batch)
        await jobs.enqueue(connection, copied, [Job(Stage.VALIDATE, batch.batch)])
