"""A job is completed or returns to the queue, however its handler ends."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import uuid4

import pytest
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain import models
from pydantic import SecretStr

from batchd.bootstrap import Components
from batchd.db.connection import open_database
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.jobs import Job, Lane, Stage
from batchd.queue import jobs
from batchd.queue.engine import JobConsumer, RetryLater
from batchd.settings import Settings
from tests.support.polling import NEVER_S, TIMEOUT_S, eventually
from tests.support.relay import relay_to
from tests.support.rows import new_batch

pytestmark = pytest.mark.slow

Handle = Callable[[Job], Awaitable[None]]


BATCH = new_batch()


@pytest.fixture
def job() -> Job:
    return Job(Stage.COPY, BATCH.batch)


@pytest.fixture
async def queued_job(components: Components, job: Job) -> None:
    async with components.database.transaction() as connection:
        await jobs.enqueue(connection, BATCH, [job])


def new_consumer(components: Components, handle: Handle) -> JobConsumer:
    return JobConsumer(components.database, handle, lane=Lane.EXPRESS, slots=2, lease_s=NEVER_S)


async def queued_jobs(components: Components) -> list[tuple[str, str]]:
    """Return the keys and statuses of the jobs in the queue."""
    async with components.database.connection() as connection:
        rows = await connection.fetch("SELECT dedupe_key, status FROM pgqueuer")
    return [(row["dedupe_key"], row["status"]) for row in rows]


@pytest.mark.usefixtures("queued_job")
async def test_completed_job_leaves_the_queue(components: Components, job: Job) -> None:
    handled = asyncio.Event()

    async def handle(handled_job: Job) -> None:
        assert handled_job == job
        handled.set()

    consumer = new_consumer(components, handle)
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(TIMEOUT_S):
        await handled.wait()
    consumer.stop()
    await running
    assert await queued_jobs(components) == []


@pytest.mark.usefixtures("queued_job")
@pytest.mark.parametrize("failure", [RetryLater(0.0), ValueError("a defect")], ids=type)
async def test_failed_job_is_retried(components: Components, job: Job, failure: Exception) -> None:
    attempts: list[Job] = []
    succeeded = asyncio.Event()

    async def handle(handled_job: Job) -> None:
        attempts.append(handled_job)
        if len(attempts) == 1:
            raise failure
        succeeded.set()

    consumer = new_consumer(components, handle)
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(TIMEOUT_S):
        await succeeded.wait()
    consumer.stop()
    await running
    assert attempts == [job, job]


@pytest.mark.usefixtures("queued_job")
@pytest.mark.parametrize(
    "failure", [None, RetryLater(0.0), ValueError("a defect")], ids=["success", "retry", "defect"]
)
async def test_job_that_another_worker_has_taken_over_stays_with_it(
    components: Components, job: Job, failure: Exception | None
) -> None:
    """As after a freeze of this worker: its lease has expired."""
    other = uuid4()

    async def handle(_: Job) -> None:
        async with components.database.connection() as connection:
            await connection.execute("UPDATE pgqueuer SET queue_manager_id = $1", other)
        handled.set()
        if failure is not None:
            raise failure

    handled = asyncio.Event()
    consumer = new_consumer(components, handle)
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(TIMEOUT_S):
        await handled.wait()
    consumer.stop()
    await running
    async with components.database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT dedupe_key, status::text, queue_manager_id FROM pgqueuer"
        )
    assert row is not None
    assert tuple(row) == (job.key, "picked", other)


@pytest.mark.usefixtures("queued_job")
async def test_job_that_failed_during_an_outage_is_retried_before_its_lease_expires(
    settings: Settings, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0
    succeeded = asyncio.Event()

    async def handle(_: Job) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await relay.cut()
            raise ProcessingTimeout("The database is not responding.")
        succeeded.set()

    async def outage_logged() -> bool:
        return "the database is not responding" in caplog.text

    async with relay_to(database_url) as relay:
        changes = {"database_url": SecretStr(relay.url)}
        async with open_database(settings.model_copy(update=changes)) as database:
            consumer = JobConsumer(database, handle, lane=Lane.EXPRESS, slots=2, lease_s=NEVER_S)
            running = asyncio.create_task(consumer.run())
            await eventually(outage_logged, bool)
            await relay.mend()
            async with asyncio.timeout(TIMEOUT_S):
                await succeeded.wait()
            consumer.stop()
            await running


@pytest.mark.usefixtures("queued_job")
async def test_running_job_returns_to_the_queue_when_the_consumer_is_stopped(
    components: Components, job: Job
) -> None:
    async def handle(_: Job) -> None:
        consumer.stop()
        await asyncio.Event().wait()

    consumer = new_consumer(components, handle)
    async with asyncio.timeout(TIMEOUT_S):
        await consumer.run()
    assert await queued_jobs(components) == [(job.key, "queued")]


@pytest.mark.usefixtures("queued_job")
async def test_job_dequeued_while_stopping_returns_to_the_queue_without_being_handled(
    components: Components, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    dequeue = Queries.dequeue

    async def dequeue_and_stop(queries: Queries, **options: object) -> Sequence[models.Job]:
        dequeued: Sequence[models.Job] = await dequeue(queries, **options)  # type: ignore[arg-type]
        if dequeued:
            consumer.stop()
        return dequeued

    handled: list[Job] = []

    async def handle(handled_job: Job) -> None:
        handled.append(handled_job)

    monkeypatch.setattr(Queries, "dequeue", dequeue_and_stop)
    consumer = new_consumer(components, handle)
    async with asyncio.timeout(TIMEOUT_S):
        await consumer.run()
    assert await queued_jobs(components) == [(job.key, "queued")]
    assert handled == []


@pytest.mark.usefixtures("queued_job")
async def test_paused_consumer_claims_no_jobs(components: Components, job: Job) -> None:
    handled = asyncio.Event()

    async def handle(_: Job) -> None:
        handled.set()

    consumer = new_consumer(components, handle)
    consumer.pause()
    running = asyncio.create_task(consumer.run())
    other = new_consumer(components, handle)
    other_running = asyncio.create_task(other.run())
    async with asyncio.timeout(10):
        await handled.wait()
    other.stop()
    await other_running
    handled.clear()
    async with components.database.transaction() as connection:
        await jobs.enqueue(connection, BATCH, [job])
    assert await queued_jobs(components) == [(job.key, "queued")]
    consumer.resume()
    async with asyncio.timeout(10):
        await handled.wait()
    consumer.stop()
    await running


@pytest.mark.usefixtures("queued_job")
async def test_released_job_is_run_by_another_consumer(components: Components, job: Job) -> None:
    started = asyncio.Event()
    handled: list[Job] = []

    async def hang(_: Job) -> None:
        started.set()
        await asyncio.Event().wait()

    async def handle(handled_job: Job) -> None:
        handled.append(handled_job)
        started.set()

    paused = new_consumer(components, hang)
    running = asyncio.create_task(paused.run())
    async with asyncio.timeout(10):
        await started.wait()
    started.clear()
    paused.pause()
    paused.release()
    other = new_consumer(components, handle)
    other_running = asyncio.create_task(other.run())
    async with asyncio.timeout(10):
        await started.wait()
    assert handled == [job]
    for consumer in (paused, other):
        consumer.stop()
    await asyncio.gather(running, other_running)
