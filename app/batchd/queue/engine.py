"""The worker's end of the queue: takes jobs under a lease and runs them; PgQueuer stops here."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.executors import AbstractEntrypointExecutor, EntrypointExecutorParameters
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain import models
from pgqueuer.domain.errors import RetryRequested

from batchd.db.connection import Database
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.jobs import Job, Lane

logger = logging.getLogger(__name__)

_RESTART_DELAY_S = 1.0
_MAX_BACKOFF_S = 30.0
# The engine does not notify of jobs that go back to the queue: these are found by looking.
_POLL_S = 0.5


class TryLater(Exception):
    """Raised by a handler: nothing is wrong, but the job can't go on before `delay_s`."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"again in {delay_s} s")
        self.delay_s = delay_s


@dataclass
class _Executor(AbstractEntrypointExecutor):
    """Runs one job so that no way of ending loses it: it is done, or it goes back to the queue.

    The engine would delete a job whose handler raises, and one that is cancelled.
    """

    database: Database
    run: Callable[[Job], Awaitable[None]]
    running: set[asyncio.Task[None]]
    stopping: asyncio.Event

    async def execute(self, job: models.Job, context: models.Context) -> None:  # noqa: ARG002
        if self.stopping.is_set():  # taken in the very moment of the stop
            raise RetryRequested(timedelta(0), "the worker stops")
        wanted = Job.decode(job.payload or b"")
        task = asyncio.ensure_future(self.run(wanted))
        self.running.add(task)
        try:
            await asyncio.wait([task])
            task.result()
        except TryLater as later:
            await self._database_answers()
            raise RetryRequested(timedelta(seconds=later.delay_s), str(later)) from later
        except asyncio.CancelledError:
            if not task.cancelled():  # it is the engine that was cancelled, not the handler
                task.cancel()
                raise
            raise RetryRequested(timedelta(0), "the worker stops") from None
        except Exception as error:
            delay_s = min(2.0 ** min(job.attempts, 10), _MAX_BACKOFF_S)
            logger.warning(
                "%s failed and is tried again in %s s", wanted.key, delay_s, exc_info=error
            )
            await self._database_answers()
            raise RetryRequested(timedelta(seconds=delay_s), type(error).__name__) from error
        finally:
            self.running.discard(task)

    async def _database_answers(self) -> None:
        """Keep a job until it can be given back.

        Otherwise it would be nobody's until its lease runs out: the engine tries only once.
        """
        while not self.stopping.is_set():
            try:
                async with self.database.connection() as connection:
                    await connection.execute("SELECT 1")
            except ProcessingTimeout:
                await asyncio.sleep(_RESTART_DELAY_S)
            else:
                return


async def _nothing(_: models.Job) -> None:
    """Fill the place of a function that `_Executor` does not use."""


class Queue:
    """Takes jobs of one lane, a bounded number at a time, until it is stopped."""

    def __init__(
        self,
        database: Database,
        handle: Callable[[Job], Awaitable[None]],
        *,
        lane: Lane,
        slots: int,
        lease_s: float,
    ) -> None:
        self._database = database
        self._handle = handle
        self._lane = lane
        self._slots = max(slots, 2)
        self._lease_s = lease_s
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._manager: QueueManager | None = None

    def stop(self) -> None:
        """Take no more jobs; those that run go back to the queue at once, for another worker."""
        self._stopping.set()
        if self._manager is not None:
            self._manager.shutdown.set()
        for task in self._running:
            task.cancel()

    async def run(self) -> None:
        """Work until `stop`. An outage of the database is waited out."""
        while not self._stopping.is_set():
            try:
                await self._run_manager()
            except Exception as error:  # noqa: BLE001  # whatever it was, the fleet must go on
                logger.warning("the queue stopped and is started again: %r", error)
                await self._pause(_RESTART_DELAY_S)

    async def _run_manager(self) -> None:
        # A pool, not one connection: with one, an outage ends in every running job being run twice.
        # QueueManager, not PgQueuer: that one loses jobs when its scheduler fails.
        self._manager = QueueManager(Queries.from_asyncpg_pool(self._database.pool))
        parameters = EntrypointExecutorParameters(
            func=_nothing, concurrency_limit=0, on_failure="hold"
        )
        self._manager.register_executor(
            self._lane.value,
            _Executor(parameters, self._database, self._handle, self._running, self._stopping),
        )
        if self._stopping.is_set():
            return
        await self._manager.run(
            dequeue_timeout=timedelta(seconds=_POLL_S),
            batch_size=self._slots // 2,
            max_concurrent_tasks=self._slots,
            heartbeat_timeout=timedelta(seconds=self._lease_s),
            # We look every half second anyway. Its check of the listener begins before the
            # listener does, and a busy start made every manager drain and start again.
            shutdown_on_listener_failure=False,
        )

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
