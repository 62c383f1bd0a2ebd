"""The dispatcher: runs the stage that a job stands for, and handles the stage's failures."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import assert_never

from batchd.db import job_failures
from batchd.db.job_failures import FailureCounter
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.jobs import Job, Stage
from batchd.domain.operations import UpstreamUnavailable
from batchd.observability import metrics
from batchd.pipeline.cancel import cancel
from batchd.pipeline.chunks.runner import run_chunk
from batchd.pipeline.context import ClaimLost, PipelineContext
from batchd.pipeline.copy import copy
from batchd.pipeline.dead_letter import dead_letter, end_without_files
from batchd.pipeline.delete import delete, delete_unneeded_files
from batchd.pipeline.failures import FailureKind, reason_of
from batchd.pipeline.results import write_results
from batchd.pipeline.supervisor import supervise
from batchd.pipeline.validate.stage import validate
from batchd.queue import jobs
from batchd.queue.engine import JobConsumer, RetryLater
from batchd.services.uploads import Uploads

logger = logging.getLogger(__name__)


MAX_DEFECTS = 5
"""Defects of a job after which it is dead-lettered."""
MAX_TIME_LIMITS = 20
"""Failures of a job because of batchd's own time limits, after which it is dead-lettered.

More than defects, because an overload causes them too; they take about eight minutes.
"""
MAX_LONE_OUTAGES = 100
"""Lone outages of a job after which it is dead-lettered; they take about fifty minutes."""
MAX_DEATHS = 10
"""Deaths of a job's workers after which it is dead-lettered; chunks have their own count."""
MAX_DEAD_LETTER_ATTEMPTS = 3
"""Attempts to end a stage cleanly, after which it is ended in the database alone."""

_BOUNDS: Mapping[FailureKind, tuple[FailureCounter, int]] = {
    FailureKind.DEFECT: ("defects", MAX_DEFECTS),
    FailureKind.TIME_LIMIT: ("time_limits", MAX_TIME_LIMITS),
    FailureKind.LONE_OUTAGE: ("lone_outages", MAX_LONE_OUTAGES),
}
"""Which failures are counted, and after how many of them the job is dead-lettered."""


class Dispatcher:
    def __init__(self, context: PipelineContext, uploads: Uploads) -> None:
        self._context = context
        self._uploads = uploads

    async def handle(self, job: Job) -> None:
        """Run the job's stage. An exception means that the job must be retried.

        RetryLater also stands for a chunk whose upstream is unavailable: it is no failure that is
        counted, but it is recorded as the reason why the batch does not advance.
        Failures are recorded with their reason. After a bounded number of counted ones, or after
        MAX_DEATHS deaths of workers, the job is dead-lettered.
        """
        deaths = 0 if job.stage is Stage.CHUNK else await self._record_start(job)
        try:
            if deaths < MAX_DEATHS:
                await self._run_stage(job)
                self._context.breaker.record_success()
            else:
                await self._dead_letter(
                    job,
                    f"{deaths} workers died of it",
                    is_last_resort=deaths >= MAX_DEATHS + MAX_DEAD_LETTER_ATTEMPTS,
                    read_copy=False,
                )
        except (RetryLater, asyncio.CancelledError):
            await self._record_end(job)
            raise
        except ClaimLost as error:
            logger.info("job %s is obsolete: %s", job.key, error)
        except UpstreamUnavailable as error:
            logger.info("job %s waits for %.1f s: %s", job.key, error.retry_after_s, error)
            await self._record_failure(job, error, None)
            raise RetryLater(error.retry_after_s) from error
        except Exception as error:
            self._context.breaker.record_failure(job.key, error)
            kind = await self._context.breaker.judge(error)
            counter, max_failures = _BOUNDS.get(kind, (None, 0))
            failures = await self._record_failure(job, error, counter)
            # Also 0 if it could not be recorded.
            if failures == 0 or failures < max_failures:
                raise
            await self._dead_letter(
                job,
                reason_of(error),
                is_last_resort=failures >= max_failures + MAX_DEAD_LETTER_ATTEMPTS,
                read_copy=deaths < MAX_DEATHS,
                error=error,
            )

    async def _dead_letter(
        self,
        job: Job,
        reason: str,
        *,
        is_last_resort: bool,
        read_copy: bool = True,
        error: Exception | None = None,
    ) -> None:
        """End the job's stage without the work that fails; raise if this fails too."""
        logger.error("job %s is dead-lettered: %s", job.key, reason, exc_info=error)
        metrics.DEAD_LETTERS.labels(job.stage).inc()
        if is_last_resort:
            await end_without_files(self._context, job)
        else:
            await dead_letter(self._context, job, read_copy=read_copy)
        async with self._context.database.connection() as connection:
            await job_failures.record_dead_letter(connection, job, reason=reason)

    async def _record_start(self, job: Job) -> int:
        """Record that an attempt starts; return how many workers have died of the job before."""
        async with self._context.database.connection() as connection:
            return await job_failures.record_start(connection, job)

    async def _record_end(self, job: Job) -> None:
        """Record that an attempt has ended without a death, although it will be repeated."""
        if job.stage is not Stage.CHUNK:
            with suppress(ProcessingTimeout):
                async with self._context.database.connection() as connection:
                    await job_failures.record_end(connection, job)

    async def _record_failure(
        self, job: Job, error: Exception, counter: FailureCounter | None
    ) -> int:
        """Record the failure; return how many such failures the job has had, 0 if unbounded."""
        try:
            async with self._context.database.connection() as connection:
                return await job_failures.record_failure(
                    connection, job, reason=reason_of(error), counter=counter
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

    async def guard(self, consumers: Sequence[JobConsumer]) -> None:
        """Pause the consumers while this worker's own storage access or disk fails."""
        await self._context.breaker.guard(consumers)

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
