"""One worker: consumes the jobs of every lane and runs the periodic tasks."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from batchd.db.connection import Database
from batchd.domain.jobs import Lane
from batchd.pipeline.dispatcher import Dispatcher
from batchd.queue.engine import JobConsumer
from batchd.settings import Settings

logger = logging.getLogger(__name__)

_REQUEUE_STALE_INTERVAL_S = 2.0
_EXPRESS_SLOT_FACTOR = 4
"""The express lane has more slots: its jobs are small, or were requeued from dead workers."""


async def work(
    settings: Settings, database: Database, dispatcher: Dispatcher, stop: asyncio.Event
) -> None:
    """Run jobs until `stop` is set, then return the running ones to the queue at once."""
    consumers = [
        JobConsumer(
            database,
            dispatcher.handle,
            lane=lane,
            slots=settings.worker_slots * (_EXPRESS_SLOT_FACTOR if lane is Lane.EXPRESS else 1),
            lease_s=settings.lease_s,
        )
        for lane in Lane
    ]
    logger.info("worker started")
    async with asyncio.TaskGroup() as group:
        for consumer in consumers:
            group.create_task(consumer.run())
        periodic_tasks = [
            group.create_task(dispatcher.guard(consumers)),
            group.create_task(_repeat(dispatcher.supervise, interval_s=settings.sweep_s)),
            group.create_task(
                _repeat(dispatcher.requeue_stale, interval_s=_REQUEUE_STALE_INTERVAL_S)
            ),
        ]
        await stop.wait()
        logger.info("worker stopping")
        for task in periodic_tasks:
            task.cancel()
        for consumer in consumers:
            consumer.stop()


async def _repeat(action: Callable[[], Awaitable[None]], *, interval_s: float) -> None:
    while True:
        # Jitter, so that not all workers run it at the same time.
        await asyncio.sleep(interval_s * random.uniform(0.5, 1.0))  # noqa: S311
        try:
            await action()
        except Exception as error:  # noqa: BLE001  # the next run may succeed
            logger.warning("%s failed: %r", action.__name__, error)
