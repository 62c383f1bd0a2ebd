"""The sweeper: finds work that nobody is at, and removes what has had its time."""

import logging
from datetime import timedelta

from batchd.db import idempotency, jobs, locks
from batchd.services.stages.context import Context
from batchd.services.stages.running import note_processed
from batchd.services.uploads import Uploads

logger = logging.getLogger(__name__)

_IDEMPOTENCY_KEYS_LIVE = timedelta(hours=24)


async def sweep(context: Context, uploads: Uploads) -> None:
    """Do one round, unless another worker is at it."""
    async with context.database.transaction() as connection:
        if not await locks.try_hold(connection, locks.SWEEPER):
            return
        lost = await jobs.find_lost(connection)
        await jobs.enqueue(connection, lost)
        unnoticed = await jobs.find_processed(connection)
        await jobs.prune(connection)
        await idempotency.prune(connection, before=context.clock.now() - _IDEMPOTENCY_KEYS_LIVE)
    for job in lost:
        logger.warning("%s had no job and is queued again", job.key)
    for batch in unnoticed:
        if await note_processed(context, batch):
            logger.warning("%s was processed and nobody had noticed", batch)
    removed = await uploads.remove_expired()
    if removed:
        logger.info("%d expired uploads removed", removed)
