"""Orphaned jobs of batches and chunks are found and queued again."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import asyncpg
import pytest

from batchd.bootstrap import Components
from batchd.domain.jobs import Stage
from batchd.pipeline.chunks import runner
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.polling import eventually
from tests.support.stepping import TO_PROCESSING, step

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

LINES = 5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"sweep_s": 0.2, "worker_slots": 2, "chunk_lines": LINES})


async def delete_jobs(components: Components) -> None:
    async with components.database.connection() as connection:
        await connection.execute("DELETE FROM pgqueuer")


async def test_orphaned_batches_are_requeued(
    caller: ApiCaller, components: Components, worker: RunWorker
) -> None:
    new = await caller.create(b"")
    copied = await caller.create(b"")
    await step(components, copied, Stage.COPY)
    cancelled = await caller.create(b"")
    await caller.call("PATCH", f"/batches/{cancelled}", json={"status": "cancel"})
    await delete_jobs(components)
    async with worker():
        assert await caller.end(new) == "completed"
        assert await caller.end(copied) == "completed"
        assert await caller.end(cancelled) == "cancelled"


async def test_orphaned_chunks_are_requeued_while_others_run(
    caller: ApiCaller, components: Components, worker: RunWorker, gated: GatedOperation
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(4 * LINES), "gated")
        await gated.wait_started(2 * LINES)
        await delete_jobs(components)
        # The running chunks are claimed again as well: without jobs, their workers could be dead.
        gated.release(10 * LINES)
        assert await caller.end(batch) == "completed"
        results = await caller.download(batch)
    assert [line["line"] for line in results] == list(range(1, 4 * LINES + 1))
    assert {line["outcome"] for line in results} == {"succeeded"}


async def test_processed_batch_whose_worker_died_before_the_status_change_is_found(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def die(*_: object) -> None:
        raise ConnectionAbortedError

    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    gated.release(LINES)
    with monkeypatch.context() as patched:
        patched.setattr(runner, "mark_processed", die)
        with pytest.raises(ConnectionAbortedError):
            await step(components, batch, Stage.CHUNK)
    assert await caller.status(batch) == "processing"
    await components.dispatcher.supervise()
    assert await caller.status(batch) == "processed"


async def test_orphaned_deletion_is_requeued(
    caller: ApiCaller, components: Components, worker: RunWorker
) -> None:
    async def status() -> int:
        return (await caller.get(f"/batches/{batch}")).status

    async with worker():
        batch = await caller.create(b"")
        assert await caller.end(batch) == "completed"
    await caller.call("DELETE", f"/batches/{batch}")
    await delete_jobs(components)
    async with worker():
        await eventually(status, (404).__eq__)


async def test_failing_duty_does_not_prevent_requeueing(
    caller: ApiCaller, components: Components, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    batch = await caller.create(b"{}\n", "no_op")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("DELETE FROM pgqueuer")
        await connection.execute("DROP TABLE idempotency_keys")
        await components.dispatcher.supervise()
        jobs = await connection.fetchval("SELECT count(*) FROM pgqueuer")
    finally:
        await connection.close()
    assert jobs == 1, batch
    assert "the supervisor could not prune" in caplog.text


async def test_log_of_the_engine_is_pruned(components: Components, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO pgqueuer_log (created, job_id, status, priority, entrypoint) "
            "SELECT now() - age * interval '1 hour', 1, 'successful', 0, 'x' "
            "FROM generate_series(1, 48) AS age"
        )
        await components.dispatcher.supervise()
        remaining = await connection.fetchval("SELECT count(*) FROM pgqueuer_log")
    finally:
        await connection.close()
    assert remaining in {23, 24}
