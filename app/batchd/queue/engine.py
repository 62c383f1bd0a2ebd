"""The worker's side of the queue: claims jobs under a lease and runs them by PgQueuer."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
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
# PgQueuer sends no notification for jobs that return to the queue: polling finds them.
_POLL_INTERVAL_S = 0.5
_PAUSE_CHECK_INTERVAL_S = 1.0


class RetryLater(Exception):
    """Raised by a handler that can't continue before `delay_s`, although nothing failed."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"retry in {delay_s} s")
        self.delay_s = delay_s


@dataclass
class _Executor(AbstractEntrypointExecutor):
    """Runs one job so that it is never lost: it is completed, or it returns to the queue.

    PgQueuer would delete a job whose handler raises, and one that is cancelled.
    """

    database: Database
    handle: Callable[[Job], Awaitable[None]]
    running: set[asyncio.Task[None]]
    stopping: asyncio.Event

    async def execute(self, job: models.Job, context: models.Context) -> None:  # noqa: ARG002
        if self.stopping.is_set():  # dequeued while the worker was being stopped
            raise RetryRequested(timedelta(0), "the worker is stopping")
        decoded = Job.decode(job.payload or b"")
        task = asyncio.ensure_future(self.handle(decoded))
        self.running.add(task)
        try:
            await asyncio.wait([task])
            task.result()
        except RetryLater as later:
            await self._wait_for_database()
            raise RetryRequested(timedelta(seconds=later.delay_s), str(later)) from later
        except asyncio.CancelledError:
            if not task.cancelled():  # PgQueuer was cancelled, not the handler
                task.cancel()
                raise
            raise RetryRequested(timedelta(0), "the worker is stopping") from None
        except Exception as error:
            delay_s = min(2.0 ** min(job.attempts, 10), _MAX_BACKOFF_S)
            logger.warning(
                "job %s failed and is retried in %s s", decoded.key, delay_s, exc_info=error
            )
            await self._wait_for_database()
            raise RetryRequested(timedelta(seconds=delay_s), type(error).__name__) from error
        finally:
            self.running.discard(task)

    async def _wait_for_database(self) -> None:
        """Keep the job until it can be returned to the queue.

        PgQueuer tries that only once; if it failed, the job would be stuck until its lease expires.
        """
        while not self.stopping.is_set():
            try:
                async with self.database.connection() as connection:
                    await connection.execute("SELECT 1")
            except ProcessingTimeout:
                await asyncio.sleep(_RESTART_DELAY_S)
            else:
                return


async def _unused(_: models.Job) -> None:
    """Satisfy PgQueuer, which requires a function that `_Executor` does not call."""


@dataclass
class _OwnJobStatements(QueryQueueBuilder):
    """PgQueuer's statements that end a job or keep it, for the jobs that this manager holds.

    A worker that wakes up after its lease has expired would otherwise take the job away from the
    worker that runs it by then: return it to the queue, or delete it.
    """

    manager_id: UUID = field(kw_only=True)

    def build_log_job_query(self) -> str:
        return self._guarded(super().build_log_job_query())

    def build_retry_job_query(self) -> str:
        return self._guarded(super().build_retry_job_query())

    def build_update_heartbeat_query(self) -> str:
        return self._guarded(super().build_update_heartbeat_query())

    def _guarded(self, statement: str) -> str:
        condition = "WHERE id = "
        if condition not in statement:
            raise NotImplementedError(f"another version of PgQueuer: {statement}")
        return statement.replace(
            condition, f"WHERE queue_manager_id = '{self.manager_id}' AND id = "
        )


class _PausableQueueManager(QueueManager):
    """PgQueuer's manager, which fetches no jobs while it is paused; running ones continue."""

    resumed: asyncio.Event

    async def fetch_jobs(
        self,
        batch_size: int,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> AsyncGenerator[models.Job, None]:
        if not self.resumed.is_set():
            # No longer than this: only then does the manager check whether it is being shut down.
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_CHECK_INTERVAL_S):
                    await self.resumed.wait()
            return
        async for job in super().fetch_jobs(
            batch_size, global_concurrency_limit, heartbeat_timeout
        ):
            yield job


class JobConsumer:
    """Runs the jobs of one lane, a limited number concurrently, until it is stopped."""

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
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._manager: QueueManager | None = None

    def stop(self) -> None:
        """Claim no more jobs, and return the running ones to the queue at once."""
        self._stopping.set()
        if self._manager is not None:
            self._manager.shutdown.set()
        self.release()

    def pause(self) -> None:
        """Claim no more jobs; running ones continue."""
        self._resumed.clear()

    def resume(self) -> None:
        """Claim jobs again."""
        self._resumed.set()

    def release(self) -> None:
        """Return the running jobs to the queue at once."""
        for task in self._running:
            task.cancel()

    async def run(self) -> None:
        """Run jobs until `stop` is called, through outages of the database."""
        while not self._stopping.is_set():
            try:
                await self._run_manager()
            except Exception as error:  # noqa: BLE001  # a worker survives any error of the engine
                logger.warning("the job consumer failed and is restarted: %r", error)
                await self._pause(_RESTART_DELAY_S)

    async def _run_manager(self) -> None:
        # A pool, not one connection: with one, every running job is run twice after an outage.
        # QueueManager, not PgQueuer: the latter loses jobs when its scheduler fails.
        queries = Queries.from_asyncpg_pool(self._database.pool)
        manager = _PausableQueueManager(queries)
        queries.qbq = _OwnJobStatements(manager_id=manager.queue_manager_id)
        manager.resumed = self._resumed
        self._manager = manager
        parameters = EntrypointExecutorParameters(
            func=_unused, concurrency_limit=0, on_failure="hold"
        )
        manager.register_executor(
            self._lane.value,
            _Executor(parameters, self._database, self._handle, self._running, self._stopping),
        )
        if self._stopping.is_set():
            return
        await manager.run(
            dequeue_timeout=timedelta(seconds=_POLL_INTERVAL_S),
            batch_size=self._slots // 2,
            max_concurrent_tasks=self._slots,
            heartbeat_timeout=timedelta(seconds=self._lease_s),
            # Polling covers a lost listener. PgQueuer's health check of the listener starts before
            # the listener does, so a busy start made every manager drain and restart.
            shutdown_on_listener_failure=False,
        )

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
