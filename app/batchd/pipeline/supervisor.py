"""The supervisor: finds batches that do not go on, says why, and puts them right."""

import logging
from datetime import timedelta

from batchd.db import advisory_locks, idempotency_keys, job_failures
from batchd.observability import metrics
from batchd.pipeline.chunks.runner import note_processed
from batchd.pipeline.context import PipelineContext
from batchd.queue import fair_scheduling, jobs, orphans
from batchd.services.uploads import Uploads

logger = logging.getLogger(__name__)

_IDEMPOTENCY_KEYS_LIVE = timedelta(hours=24)
_TROUBLES_SHOWN = 20


async def sweep(context: PipelineContext, uploads: Uploads) -> None:
    """Do one round, unless another worker is at it."""
    async with context.database.transaction() as connection:
        if not await advisory_locks.try_hold(connection, advisory_locks.SWEEPER):
            return
        lost = await orphans.find_lost(connection)
        await jobs.enqueue_overdue(connection, lost)
        unnoticed = await orphans.find_processed(connection)
        in_trouble = await job_failures.find(connection, limit=_TROUBLES_SHOWN)
        if await fair_scheduling.rebase(connection):
            logger.info("the virtual time of the shares begins anew")
        await jobs.prune(connection)
        await idempotency_keys.prune(
            connection, before=context.clock.now() - _IDEMPOTENCY_KEYS_LIVE
        )
    for job in lost:
        metrics.STUCK.labels("queued again").inc()
        logger.warning("%s had no job and is queued again", job.key)
    for batch in unnoticed:
        if await note_processed(context, batch):
            metrics.STUCK.labels("noticed").inc()
            logger.warning("%s was processed and nobody had noticed", batch)
    metrics.IN_TROUBLE.set(len(in_trouble))
    for trouble in in_trouble:
        logger.warning(
            "%s is %s and does not go on: %s failed %d times in %.0f s, last with: %s",
            trouble.batch,
            trouble.status,
            trouble.job,
            trouble.tries,
            trouble.seconds,
            trouble.reason,
        )
    removed = await uploads.delete_expired()
    if removed:
        logger.info("%d expired uploads removed", removed)
