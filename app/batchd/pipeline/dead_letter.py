"""Dead letters: ends the stage of a job that keeps failing, and records what is missing."""

import logging
from typing import assert_never

from batchd.db import batches, chunks, graveyard, job_failures
from batchd.domain.batches import END_STATUSES, Batch, LineCounts, Status
from batchd.domain.jobs import Job, Stage
from batchd.domain.storage_keys import batch_prefix, report_key, results_key
from batchd.pipeline.cancel import cancel, stop_chunks
from batchd.pipeline.chunks.runner import run_chunk
from batchd.pipeline.context import PipelineContext, advance, claim
from batchd.pipeline.copy import dead_letter_copy
from batchd.pipeline.delete import bury_files, delete
from batchd.pipeline.results import write_results
from batchd.pipeline.validate.stage import dead_letter_validation

logger = logging.getLogger(__name__)

_CLEANUP_RETRY_S = 86_400


async def dead_letter(context: PipelineContext, job: Job, *, read_copy: bool = True) -> None:
    """End the job's stage as cleanly as possible: with a report, or with failed lines.

    If this fails too, it is retried, and finally `end_without_files` ends the stage.
    """
    match job.stage:
        case Stage.COPY:
            await dead_letter_copy(context, job.batch)
        case Stage.VALIDATE:
            await dead_letter_validation(context, job.batch)
        case Stage.CHUNK:
            await run_chunk(context, job.batch, job.chunk or 0, poisoned=True)
        case Stage.RESULTS:
            await write_results(context, job.batch, allow_missing_parts=True, read_copy=read_copy)
        case Stage.CANCEL:
            await cancel(context, job.batch, allow_missing_parts=True, read_copy=read_copy)
        case Stage.DELETE:
            await delete(context, job.batch)  # rows only
        case Stage.CLEANUP:
            await _postpone_cleanup(context, job)
        case _:
            assert_never(job.stage)


async def end_without_files(context: PipelineContext, job: Job) -> None:
    """End the job's stage in the database alone: no file is read or written."""
    match job.stage:
        case Stage.COPY | Stage.CHUNK | Stage.DELETE | Stage.CLEANUP:
            await dead_letter(context, job)  # needs no file either
        case Stage.VALIDATE:
            batch = await claim(context, job.batch, Status.VALIDATING)
            if batch is not None:
                await _end_without_report(context, batch)
        case Stage.RESULTS:
            batch = await claim(context, job.batch, Status.WRITING_RESULTS)
            if batch is not None:
                await _end_without_results(context, batch)
        case Stage.CANCEL:
            batch = await stop_chunks(context, job.batch)
            if batch is not None:
                await _end_without_results(context, batch)
        case _:
            assert_never(job.stage)


async def _end_without_report(context: PipelineContext, batch: Batch) -> None:
    """End a batch whose validation report can't be stored: there is nothing to download."""
    key, status = report_key(batch), Status.VALIDATION_FAILED
    async with advance(context, batch, status, output_key=key) as (connection, ended):
        await batches.set_input(connection, batch.batch, key=None)
        await bury_files(context, connection, ended)


async def _end_without_results(context: PipelineContext, batch: Batch) -> None:
    """End a batch whose results can't be stored: cancelled, with nothing to download.

    It is not completed: that would promise results. The line counts say what was run.
    """
    key, status = results_key(batch), Status.CANCELLED
    async with advance(context, batch, status, output_key=key) as (connection, ended):
        counts = await chunks.find_line_counts(connection, batch.batch)
        remaining = (batch.lines or 0) - counts.done
        counts = counts.plus(LineCounts(cancelled=remaining))
        await batches.set_final_counts(connection, batch.batch, counts)
        await batches.set_input(connection, batch.batch, key=None)
        await chunks.delete(connection, batch.batch)
        await bury_files(context, connection, ended)


async def _postpone_cleanup(context: PipelineContext, job: Job) -> None:
    """Try again a day later, and log where the files are: an operator may have to delete them."""
    async with context.database.transaction() as connection:
        batch = await batches.find_unscoped(connection, job.batch)
        grave = await graveyard.find(connection, job.batch)
        if grave is not None:
            await graveyard.postpone(connection, job.batch, delay_s=_CLEANUP_RETRY_S)
        elif batch is not None and batch.status in END_STATUSES:
            # The previous version queued the job without a grave.
            await graveyard.insert(connection, batch, delay_s=_CLEANUP_RETRY_S)
        # Otherwise the next attempt would be given up before it has begun.
        await job_failures.delete(connection, job)
    owner = grave or batch
    if owner is not None:
        logger.error(
            "files of batch %s can't be deleted; they are under %s",
            job.batch,
            batch_prefix(owner.account, job.batch),
        )
