"""Cancelling quickly stops unfinished lines, and keeps the results of finished ones."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.pipeline.chunks.lease import ChunkLease
from batchd.pipeline.chunks.line_runner import LineRunner
from batchd.plugins.s3.storage import S3Storage
from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.polling import NEVER_S, eventually

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Let two chunks of ten lines run concurrently, with two lines of each."""
    return settings.model_copy(
        update={
            "chunk_lines": 10,
            "worker_slots": 2,
            "line_concurrency": 2,
            "lease_s": NEVER_S,
        }
    )


@pytest.fixture
def wait_for_grace_period(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[object]]:
    """Return a function that waits for the only chunk's grace period, which has no end."""
    monkeypatch.setattr("batchd.pipeline.chunks.line_runner._GRACE_PERIOD_S", NEVER_S)
    runners: list[LineRunner] = []
    run = LineRunner.run

    async def recorded_run(runner: LineRunner, lease: ChunkLease) -> None:
        runners.append(runner)
        await run(runner, lease)

    async def stopping() -> list[bool]:
        return [runner._stopping.is_set() for runner in runners]

    monkeypatch.setattr(LineRunner, "run", recorded_run)
    return lambda: eventually(stopping, [True].__eq__)


async def cancel(caller: ApiCaller, batch: str) -> Reply:
    return await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})


async def progress(caller: ApiCaller, batch: str) -> Any:
    return (await caller.get(f"/batches/{batch}?expand=progress")).body["progress"]


async def test_cancelled_batch_keeps_the_results_of_finished_lines(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    async with worker():
        # Not a small batch: the express lane has more slots.
        batch = await caller.create(numbered_lines(45, padding=2000), "gated")
        gated.release(7)
        await gated.wait_finished(7)
        await gated.wait_started(11)
        assert (await cancel(caller, batch)).body["status"] == "cancel"
        assert await caller.end(batch) == "cancelled"
        results = await caller.download(batch)
    assert results == [
        {"line": n, "id": f"n{n}", "outcome": "succeeded", "status": 200, "body": {"n": n}}
        if n in gated.finished
        else {"line": n, "id": f"n{n}", "outcome": "cancelled"}
        for n in range(1, 46)
    ]
    # No line started after the cancellation was noticed, in particular none of a queued chunk.
    assert len(gated.started) == 11
    assert max(gated.started) <= 20
    assert await progress(caller, batch) == {
        "total": 45,
        "succeeded": 7,
        "failed": 0,
        "cancelled": 38,
        "remaining": 0,
    }


async def test_get_batch_describes_the_results_of_a_cancelled_batch(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(12), "gated")
        await gated.wait_started(4)
        await cancel(caller, batch)
        await caller.end(batch)
        data = await caller.download_bytes(batch)
        body = (await caller.get(f"/batches/{batch}?expand=results,errors")).body
    assert body["results"]["size"] == len(data)
    assert body["results"]["lines"] == 12
    assert body["errors"] == {}


async def test_line_that_finishes_within_the_grace_period_keeps_its_result(
    caller: ApiCaller,
    worker: RunWorker,
    gated: GatedOperation,
    wait_for_grace_period: Callable[[], Awaitable[object]],
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(4), "gated")
        await gated.wait_started(2)
        await cancel(caller, batch)
        await wait_for_grace_period()
        gated.release(2)
        assert await caller.end(batch) == "cancelled"
        results = await caller.download(batch)
    assert [line["outcome"] for line in results] == ["succeeded"] * 2 + ["cancelled"] * 2


async def test_batch_is_cancelled_as_soon_as_its_lines_have_finished(
    caller: ApiCaller,
    worker: RunWorker,
    gated: GatedOperation,
    wait_for_grace_period: Callable[[], Awaitable[object]],
) -> None:
    """The grace period is not waited out once all lines have finished."""
    async with worker():
        batch = await caller.create(numbered_lines(1), "gated")
        await gated.wait_started(1)
        await cancel(caller, batch)
        await wait_for_grace_period()
        gated.release(1)
        assert await caller.end(batch) == "cancelled"
        (line,) = await caller.download(batch)
    assert line["outcome"] == "succeeded"


async def test_file_of_a_batch_cancelled_before_it_is_copied_is_not_read(
    caller: ApiCaller, worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_keys: list[str] = []

    def record_read(self: S3Storage, key: str, **_: object) -> None:
        read_keys.append(key)

    monkeypatch.setattr(S3Storage, "read", record_read)
    batch = await caller.create(numbered_lines(3), "gated")
    await cancel(caller, batch)
    async with worker():
        assert await caller.end(batch) == "cancelled"
    assert read_keys == []
    body = (await caller.get(f"/batches/{batch}?download=true&expand=progress,results")).body
    assert "download" not in body
    assert body["results"] is None
    assert body["progress"] == {
        "total": None,
        "succeeded": 0,
        "failed": 0,
        "cancelled": 0,
        "remaining": None,
    }


@pytest.mark.parametrize("status", ["cancelling", "cancelled"])
async def test_batch_can_be_cancelled_only_once(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation, status: str
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(1), "gated")
        await gated.wait_started(1)
        assert (await cancel(caller, batch)).status == 200
        await eventually(lambda: caller.status(batch), status.__eq__)
        reply = await cancel(caller, batch)
    assert (reply.status, reply.body["subcode"]) == (400, 400358)


async def test_batch_can_be_cancelled_only_once_while_no_worker_runs(caller: ApiCaller) -> None:
    batch = await caller.create(numbered_lines(1), "gated")
    assert (await cancel(caller, batch)).status == 200
    reply = await cancel(caller, batch)
    assert (reply.status, reply.body["subcode"]) == (400, 400358)


async def test_completed_batch_cannot_be_cancelled(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(1), "gated")
        gated.release(1)
        assert await caller.end(batch) == "completed"
    reply = await cancel(caller, batch)
    assert (reply.status, reply.body["subcode"]) == (400, 400592)


async def test_late_jobs_do_not_change_a_cancelled_batch(
    caller: ApiCaller, worker: RunWorker, components: Components, gated: GatedOperation
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(1), "gated")
        await gated.wait_started(1)
        await cancel(caller, batch)
        await caller.end(batch)
    before = await caller.get(f"/batches/{batch}?expand=progress,results")
    for stage in (Stage.COPY, Stage.VALIDATE, Stage.CHUNK, Stage.RESULTS, Stage.CANCEL):
        await components.dispatcher.handle(Job(stage, BatchId(UUID(batch)), 0))
    assert (await caller.get(f"/batches/{batch}?expand=progress,results")).body == before.body
    assert gated.started == [1]
