"""However a job ends, it is done or it goes back to the queue."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

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
from tests.support.polling import eventually
from tests.support.relay import relay_to
from tests.support.rows import a_batch

pytestmark = pytest.mark.slow

Handle = Callable[[Job], Awaitable[None]]


BATCH = a_batch()


@pytest.fixture
def job() -> Job:
    return Job(Stage.COPY, BATCH.batch)


@pytest.fixture
async def queued(components: Components, job: Job) -> None:
    async with components.database.transaction() as connection:
        await jobs.enqueue(connection, BATCH, [job])


def queue_of(components: Components, handle: Handle) -> JobConsumer:
    return JobConsumer(components.database, handle, lane=Lane.EXPRESS, slots=2, lease_s=3.0)


async def left(components: Components) -> list[tuple[str, str]]:
    """Return the jobs that are in the queue: whose, and whether waiting or taken."""
    async with components.database.connection() as connection:
        rows = await connection.fetch("SELECT dedupe_key, status FROM pgqueuer")
    return [(row["dedupe_key"], row["status"]) for row in rows]


@pytest.mark.usefixtures("queued")
async def test_job_that_is_done_leaves_the_queue(components: Components, job: Job) -> None:
    done = asyncio.Event()

    async def handle(taken: Job) -> None:
        assert taken == job
        done.set()

    queue = queue_of(components, handle)
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(10):
        await done.wait()
    queue.stop()
    await running
    assert await left(components) == []


@pytest.mark.usefixtures("queued")
@pytest.mark.parametrize("failure", [RetryLater(0.0), ValueError("a defect")], ids=type)
async def test_job_that_failed_is_tried_again(
    components: Components, job: Job, failure: Exception
) -> None:
    tries: list[Job] = []
    succeeded = asyncio.Event()

    async def handle(taken: Job) -> None:
        tries.append(taken)
        if len(tries) == 1:
            raise failure
        succeeded.set()

    queue = queue_of(components, handle)
    running = asyncio.create_task(queue.run())
    async with asyncio.timeout(10):
        await succeeded.wait()
    queue.stop()
    await running
    assert tries == [job, job]


@pytest.mark.usefixtures("queued")
async def test_job_that_failed_while_the_database_was_away_is_tried_again_before_its_lease_ends(
    settings: Settings, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0
    succeeded = asyncio.Event()

    async def handle(_: Job) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await relay.cut()
            raise ProcessingTimeout("The database is away.")
        succeeded.set()

    async def asked_in_vain() -> bool:
        return "the database is not responding" in caplog.text

    async with relay_to(database_url) as relay:
        changes = {"database_url": SecretStr(relay.url)}
        async with open_database(settings.model_copy(update=changes)) as database:
            queue = JobConsumer(database, handle, lane=Lane.EXPRESS, slots=2, lease_s=60.0)
            running = asyncio.create_task(queue.run())
            await eventually(asked_in_vain, bool)
            await relay.mend()
            async with asyncio.timeout(15):
                await succeeded.wait()
            queue.stop()
            await running


@pytest.mark.usefixtures("queued")
async def test_job_that_runs_at_the_stop_goes_back(components: Components, job: Job) -> None:
    async def handle(_: Job) -> None:
        queue.stop()
        await asyncio.Event().wait()

    queue = queue_of(components, handle)
    async with asyncio.timeout(10):
        await queue.run()
    assert await left(components) == [(job.key, "queued")]


@pytest.mark.usefixtures("queued")
async def test_job_taken_in_the_very_moment_of_the_stop_goes_back_unseen(
    components: Components, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    dequeue = Queries.dequeue

    async def dequeue_and_stop(queries: Queries, **options: object) -> Sequence[models.Job]:
        taken: Sequence[models.Job] = await dequeue(queries, **options)  # type: ignore[arg-type]
        if taken:
            queue.stop()
        return taken

    seen: list[Job] = []

    async def handle(taken: Job) -> None:
        seen.append(taken)

    monkeypatch.setattr(Queries, "dequeue", dequeue_and_stop)
    queue = queue_of(components, handle)
    async with asyncio.timeout(10):
        await queue.run()
    assert await left(components) == [(job.key, "queued")]
    assert seen == []
