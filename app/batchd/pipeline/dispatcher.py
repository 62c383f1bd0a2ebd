"""The dispatcher: runs the stage that a job stands for, and handles the stage's failures."""

import logging
from typing import assert_never

from batchd.db import job_failures
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.jobs import Job, Stage
from batchd.observability import metrics
from batchd.pipeline.cancel import cancel
from batchd.pipeline.chunks.runner import run_chunk
from batchd.pipeline.context import ClaimLost, PipelineContext
from batchd.pipeline.copy import copy
from batchd.pipeline.dead_letter import dead_letter, end_without_files
from batchd.pipeline.delete import delete, delete_unneeded_files
from batchd.pipeline.failures import FailureKind, kind_of
from batchd.pipeline.results import write_results
from batchd.pipeline.supervisor import supervise
from batchd.pipeline.validate.stage import validate
from batchd.queue import jobs
from batchd.queue.engine import RetryLater
from batchd.services.uploads import Uploads

logger = logging.getLogger(__name__)


MAX_DEFECTS = 5
"""Defects of a job after which it is dead-lettered."""
MAX_ENDINGS = 3
"""Attempts to end a stage cleanly, after which it is ended in the rows alone."""


class Dispatcher:
    def __init__(self, context: PipelineContext, uploads: Uploads) -> None:
        self._context = context
        self._uploads = uploads

    async def handle(self, job: Job) -> None:
        """Run the job's stage. An exception means that the job must be retried.

        Failures are recorded with their reason; after MAX_DEFECTS defects the job is dead-lettered.
        """
        try:
            await self._run_stage(job)
        except RetryLater:
            raise
        except ClaimLost as error:
            logger.info("job %s is obsolete: %s", job.key, error)
        except Exception as error:
            defects = await self._record_failure(job, error)
            if defects < MAX_DEFECTS or kind_of(error) is not FailureKind.DEFECT:
                raise
            await self._dead_letter(job, error, defects)

    async def _dead_letter(self, job: Job, error: Exception, defects: int) -> None:
        logger.error("job %s is dead-lettered: %s", job.key, reason_of(error), exc_info=error)
        metrics.DEAD_LETTERS.labels(job.stage).inc()
        if defects < MAX_DEFECTS + MAX_ENDINGS:
            await dead_letter(self._context, job)
        else:
            await end_without_files(self._context, job)

    async def _record_failure(self, job: Job, error: Exception) -> int:
        """Record the failure; return how many failures of the job were defects, not outages."""
        is_defect = kind_of(error) is FailureKind.DEFECT
        try:
            async with self._context.database.connection() as connection:
                return await job_failures.record_failure(
                    connection, job, reason=reason_of(error), is_defect=is_defect
                )
        except ProcessingTimeout:
            return 0

    async def requeue_stale(self) -> None:
        """Requeue the chunks of dead workers."""
        async with self._context.database.transaction() as connection:
            keys = await jobs.requeue_stale(
                connection, stale_after_s=self._context.settings.lease_s
            )
        for key in keys:
            logger.warning("job %s was requeued: its worker sends no heartbeats", key)

    async def supervise(self) -> None:
        """Run one round of the supervisor."""
        await supervise(self._context, self._uploads)

    async def _run_stage(self, job: Job) -> None:
        match job.stage:
            case Stage.COPY:
                await copy(self._context, job.batch)
            case Stage.VALIDATE:
                await validate(self._context, job.batch)
            case Stage.CHUNK:
                await run_chunk(self._context, job.batch, job.chunk or 0)
            case Stage.RESULTS:
                await write_results(self._context, job.batch)
            case Stage.CANCEL:
                await cancel(self._context, job.batch)
            case Stage.DELETE:
                await delete(self._context, job.batch)
            case Stage.CLEANUP:
                await delete_unneeded_files(self._context, job.batch)
            case _:
                assert_never(job.stage)


def reason_of(error: Exception) -> str:
    """Return the error as it is recorded: for operators, never for callers."""
    return f"{type(error).__name__}: {error}"
