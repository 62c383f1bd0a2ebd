"""One worker: runs jobs from the queue, sweeps, and gives back what it has at the end."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from batchd.db.connection import Database
from batchd.domain.jobs import Lane
from batchd.pipeline.dispatcher import Dispatcher
from batchd.queue.engine import Queue
from batchd.settings import Settings

logger = logging.getLogger(__name__)

_RESCUE_S = 2.0
_EXPRESS_PLACES = 4
"""Times the places of another lane: what stands here is small, or has waited for a dead worker."""


async def work(
    settings: Settings, database: Database, dispatcher: Dispatcher, stop: asyncio.Event
) -> None:
    """Work until `stop` is set; then jobs that run go back to the queue at once."""
    queues = [
        Queue(
            database,
            dispatcher.handle,
            lane=lane,
            slots=settings.worker_slots * (_EXPRESS_PLACES if lane is Lane.EXPRESS else 1),
            lease_s=settings.lease_s,
        )
        for lane in Lane
    ]
    logger.info("working")
    async with asyncio.TaskGroup() as group:
        for queue in queues:
            group.create_task(queue.run())
        chores = [
            group.create_task(_repeat(dispatcher.sweep, every_s=settings.sweep_s)),
            group.create_task(_repeat(dispatcher.rescue, every_s=_RESCUE_S)),
        ]
        await stop.wait()
        logger.info("stopping")
        for chore in chores:
            chore.cancel()
        for queue in queues:
            queue.stop()


async def _repeat(chore: Callable[[], Awaitable[None]], *, every_s: float) -> None:
    while True:
        # Not all workers at the same time.
        await asyncio.sleep(every_s * random.uniform(0.5, 1.0))  # noqa: S311
        try:
            await chore()
        except Exception as error:  # noqa: BLE001  # the next round may go better
            logger.warning("%s failed: %r", chore.__name__, error)
