"""The supervisor: recovers batches that are stuck, reports failing jobs, and prunes old rows."""

import logging
from datetime import timedelta

from batchd.db import advisory_locks, idempotency_keys, job_failures
from batchd.domain.jobs import JobFailure
from batchd.observability import metrics
from batchd.pipeline.chunks.runner import mark_processed
from batchd.pipeline.context import PipelineContext
from batchd.queue import fair_scheduling, jobs, orphans
from batchd.services.uploads import Uploads

logger = logging.getLogger(__name__)

_IDEMPOTENCY_KEY_LIFETIME = timedelta(hours=24)
_MAX_REPORTED_FAILURES = 20


async def supervise(context: PipelineContext, uploads: Uploads) -> None:
    """Run one round, unless another worker is running one."""
    async with context.database.transaction() as connection:
        if not await advisory_locks.try_acquire(connection, advisory_locks.SUPERVISOR):
            return
        orphaned_jobs = await orphans.find_orphaned_jobs(connection)
        await jobs.enqueue_orphaned(connection, orphaned_jobs)
        unmarked_batches = await orphans.find_unmarked_processed(connection)
        failures = await job_failures.prune_and_find(connection, limit=_MAX_REPORTED_FAILURES)
        if await fair_scheduling.rebase(connection):
            logger.info("the virtual time of fair scheduling was reset")
        await jobs.prune(connection)
        await idempotency_keys.prune(
            connection, before=context.clock.now() - _IDEMPOTENCY_KEY_LIFETIME
        )
    for job in orphaned_jobs:
        metrics.STUCK_BATCHES.labels("queued again").inc()
        logger.warning("job %s was neither queued nor running, and was requeued", job.key)
    for batch in unmarked_batches:
        if await mark_processed(context, batch):
            metrics.STUCK_BATCHES.labels("noticed").inc()
            logger.warning("batch %s was processed, but still in processing", batch)
    metrics.FAILING_JOBS.set(len(failures))
    for failure in failures:
        _report(failure)
    expired = await uploads.delete_expired()
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
