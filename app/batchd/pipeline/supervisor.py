"""The supervisor: recovers batches that are stuck, reports failing jobs, and prunes old rows."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from batchd.db import advisory_locks, graveyard, idempotency_keys, job_failures
from batchd.db.connection import Connection
from batchd.domain.jobs import Job, JobFailure, Stage
from batchd.observability import metrics
from batchd.pipeline.chunks.runner import mark_processed
from batchd.pipeline.context import PipelineContext
from batchd.queue import fair_scheduling, jobs, orphans
from batchd.services.uploads import Uploads

logger = logging.getLogger(__name__)

_IDEMPOTENCY_KEY_LIFETIME = timedelta(hours=24)
_MAX_REPORTED_FAILURES = 20
_MAX_CLEANUPS = 1_000


async def supervise(context: PipelineContext, uploads: Uploads) -> None:
    """Run one round: recovery first, each duty in transactions of its own.

    A duty that fails is logged, and does not prevent the others.
    """
    supervisor = _Supervisor(context, uploads)
    for duty in (
        supervisor.requeue_orphaned_jobs,
        supervisor.mark_processed_batches,
        supervisor.report_failing_jobs,
        supervisor.reset_virtual_time,
        supervisor.prune,
        supervisor.queue_due_cleanups,
        supervisor.delete_expired_uploads,
    ):
        try:
            await duty()
        except Exception as error:  # noqa: BLE001  # the other duties do not depend on it
            logger.warning("the supervisor could not %s: %r", duty.__name__, error)


class _Supervisor:
    """The duties. Those that several workers must not do at the same time take a lock."""

    def __init__(self, context: PipelineContext, uploads: Uploads) -> None:
        self._context = context
        self._uploads = uploads

    @asynccontextmanager
    async def _exclusive_transaction(self) -> "AsyncIterator[Connection | None]":
        """Open a transaction as the only supervisor; None if another worker is one right now."""
        async with self._context.database.transaction() as connection:
            acquired = await advisory_locks.try_acquire(connection, advisory_locks.SUPERVISOR)
            yield connection if acquired else None

    async def requeue_orphaned_jobs(self) -> None:
        async with self._exclusive_transaction() as connection:
            if connection is None:
                return
            orphaned_jobs = await orphans.find_orphaned_jobs(connection)
            await jobs.enqueue_orphaned(connection, orphaned_jobs)
        for job in orphaned_jobs:
            metrics.STUCK_BATCHES.labels("queued again").inc()
            logger.warning("job %s was neither queued nor running, and was requeued", job.key)

    async def queue_due_cleanups(self) -> None:
        async with self._exclusive_transaction() as connection:
            if connection is not None:
                due = await graveyard.find_due(connection, limit=_MAX_CLEANUPS)
                await jobs.enqueue_cleanups(connection, [Job(Stage.CLEANUP, id_) for id_ in due])

    async def mark_processed_batches(self) -> None:
        async with self._context.database.connection() as connection:
            batches = await orphans.find_unmarked_processed(connection)
        for batch in batches:
            if await mark_processed(self._context, batch):
                metrics.STUCK_BATCHES.labels("noticed").inc()
                logger.warning("batch %s was processed, but still in processing", batch)

    async def report_failing_jobs(self) -> None:
        async with self._exclusive_transaction() as connection:
            if connection is None:
                return
            failures = await job_failures.prune_and_find(connection, limit=_MAX_REPORTED_FAILURES)
        metrics.FAILING_JOBS.set(len(failures))
        for failure in failures:
            _report(failure)

    async def reset_virtual_time(self) -> None:
        async with self._exclusive_transaction() as connection:
            if connection is not None and await fair_scheduling.rebase(connection):
                logger.info("the virtual time of fair scheduling was reset")

    async def prune(self) -> None:
        """Delete old rows, a bounded number in each round."""
        async with self._context.database.connection() as connection:
            await jobs.prune(connection)
            await idempotency_keys.prune(connection, lifetime=_IDEMPOTENCY_KEY_LIFETIME)

    async def delete_expired_uploads(self) -> None:
        expired = await self._uploads.delete_expired()
        if expired:
            logger.info("deleted %d expired uploads", expired)


def _report(failure: JobFailure) -> None:
    logger.warning(
        "batch %s is stuck in %s: %s, %d %s in %.0f s, last: %s",
        failure.batch,
        failure.status,
        failure.job_key,
        failure.failures,
        "failure" if failure.failures == 1 else "failures",
        failure.duration_s,
        failure.reason,
    )
