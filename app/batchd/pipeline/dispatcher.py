"""Takes batches through their life: the one door from a job to the stage it asks for."""

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
from batchd.pipeline.dead_letter import give_up
from batchd.pipeline.delete import remove, tidy_up
from batchd.pipeline.results import write_results
from batchd.pipeline.supervisor import sweep
from batchd.pipeline.validate.stage import validate
from batchd.queue import jobs
from batchd.queue.engine import TryLater
from batchd.services.uploads import Uploads

logger = logging.getLogger(__name__)


MAX_FAILURES = 5
"""Failures of a job that another try would probably not help; then its batch goes on without."""


class Dispatcher:
    def __init__(self, context: PipelineContext, uploads: Uploads) -> None:
        self._context = context
        self._uploads = uploads

    async def handle(self, job: Job) -> None:
        """Do what the job asks for. An exception means: try again later, nothing is lost.

        What fails again and again is noted with its reason, and given up after MAX_FAILURES.
        """
        try:
            await self._handle(job)
        except TryLater:
            raise
        except ClaimLost as reason:
            logger.info("%s ends early: %s", job.key, reason)
        except Exception as error:
            defects = await self._note(job, error)
            if defects < MAX_FAILURES:
                raise
            logger.exception("%s is given up", job.key)
            metrics.GIVEN_UP.labels(job.stage).inc()
            await give_up(self._context, job)

    async def _note(self, job: Job, error: Exception) -> int:
        """Record why the batch does not go on; return how often it was a defect of ours."""
        is_defect = not isinstance(error, ProcessingTimeout)
        reason = f"{type(error).__name__}: {error}"
        try:
            async with self._context.database.connection() as connection:
                return await job_failures.note(connection, job, reason=reason, is_defect=is_defect)
        except ProcessingTimeout:
            return 0

    async def rescue(self) -> None:
        """Queue the chunks of dead workers anew."""
        async with self._context.database.transaction() as connection:
            rescued = await jobs.rescue(connection, silent_s=self._context.settings.lease_s)
        for key in rescued:
            logger.warning("%s has lost its worker and is queued again", key)

    async def sweep(self) -> None:
        """Find work that nobody is at, and put it back into the queue."""
        await sweep(self._context, self._uploads)

    async def _handle(self, job: Job) -> None:
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
                await remove(self._context, job.batch)
            case Stage.TIDY:
                await tidy_up(self._context, job.batch)
            case _:
                assert_never(job.stage)
