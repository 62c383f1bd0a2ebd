"""Cancelling keeps what was done, stops the rest, and is quick about it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.plugins.s3.storage import S3Storage
from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply
from tests.support.gated_operation import Gated, numbered_lines
from tests.support.polling import eventually

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Let two chunks of ten lines run at a time, and two lines of each."""
    return settings.model_copy(update={"chunk_lines": 10, "worker_slots": 2, "line_concurrency": 2})


async def cancel(caller: ApiCaller, batch: str) -> Reply:
    return await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})


async def progress(caller: ApiCaller, batch: str) -> Any:
    return (await caller.get(f"/batches/{batch}?expand=progress")).body["progress"]


async def test_batch_cancelled_in_the_middle_keeps_what_was_done(
    caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    async with worker():
        # Not a small batch: those have more places.
        batch = await caller.create(numbered_lines(45, padding=2000), "gated")
        gated.let(7)
        await gated.until_ended(7)
        await gated.until_begun(11)
        assert (await cancel(caller, batch)).body["status"] == "cancel"
        assert await caller.end(batch, within_s=2) == "cancelled"
        results = await caller.download(batch)
    assert [(line["line"], line["id"]) for line in results] == [(n, f"n{n}") for n in range(1, 46)]
    for line in results:
        if line["line"] in gated.ended:
            assert line["outcome"] == "succeeded"
            assert (line["status"], line["body"]) == (200, {"n": line["line"]})
        else:
            assert set(line) == {"line", "id", "outcome"}
            assert line["outcome"] == "cancelled"
    # Nothing was begun after the cancel was noticed, the chunks that waited least of all.
    assert len(gated.begun) == 11
    assert max(gated.begun) <= 20
    assert await progress(caller, batch) == {
        "total": 45,
        "succeeded": 7,
        "failed": 0,
        "cancelled": 38,
        "remaining": 0,
    }


async def test_results_of_a_cancelled_batch_are_those_that_get_batch_tells_of(
    caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(12), "gated")
        await gated.until_begun(4)
        await cancel(caller, batch)
        await caller.end(batch)
        data = await caller.download_bytes(batch)
        shown = (await caller.get(f"/batches/{batch}?expand=results,errors")).body
    assert shown["results"]["size"] == len(data)
    assert shown["results"]["lines"] == 12
    assert shown["errors"] == {}


async def test_line_that_ends_within_the_grace_counts_as_done(
    caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(4), "gated")
        await gated.until_begun(2)
        await cancel(caller, batch)
        await eventually(lambda: caller.status(batch), "cancelling".__eq__)
        gated.let(1)
        await gated.until_ended(1)
        assert await caller.end(batch, within_s=2) == "cancelled"
        results = await caller.download(batch)
    done = [line["line"] for line in results if line["outcome"] == "succeeded"]
    assert done == gated.ended
    assert len(results) == 4


async def test_lines_that_end_when_asked_to_do_not_make_the_batch_wait(
    caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    """The grace is for lines that do not end; nobody waits for the others."""
    async with worker():
        batch = await caller.create(numbered_lines(1), "gated")
        await gated.until_begun(1)
        await cancel(caller, batch)
        gated.let(1)
        assert await caller.end(batch, within_s=1) == "cancelled"
        (line,) = await caller.download(batch)
    assert line["outcome"] == "succeeded"


async def test_batch_cancelled_before_a_worker_saw_it_is_not_even_read(
    caller: ApiCaller, worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def note_read(self: S3Storage, key: str, **_: object) -> None:
        read.append(key)

    monkeypatch.setattr(S3Storage, "read", note_read)
    batch = await caller.create(numbered_lines(3), "gated")
    await cancel(caller, batch)
    async with worker():
        assert await caller.end(batch) == "cancelled"
    assert read == []
    shown = (await caller.get(f"/batches/{batch}?download=true&expand=progress,results")).body
    assert "download" not in shown
    assert shown["results"] is None
    assert shown["progress"] == {
        "total": None,
        "succeeded": 0,
        "failed": 0,
        "cancelled": 0,
        "remaining": None,
    }


async def test_batch_is_cancelled_once(caller: ApiCaller, worker: RunWorker, gated: Gated) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(1), "gated")
        await gated.until_begun(1)
        assert (await cancel(caller, batch)).status == 200
        for status in ("cancelling", "cancelled"):
            await eventually(lambda: caller.status(batch), status.__eq__)
            again = await cancel(caller, batch)
            assert (again.status, again.body["subcode"]) == (400, 400358)


async def test_batch_is_cancelled_once_also_while_nobody_works_on_it(caller: ApiCaller) -> None:
    batch = await caller.create(numbered_lines(1), "gated")
    assert (await cancel(caller, batch)).status == 200
    again = await cancel(caller, batch)
    assert (again.status, again.body["subcode"]) == (400, 400358)


async def test_completed_batch_can_not_be_cancelled(
    caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(1), "gated")
        gated.let(1)
        assert await caller.end(batch) == "completed"
    reply = await cancel(caller, batch)
    assert (reply.status, reply.body["subcode"]) == (400, 400592)


async def test_chunk_left_in_the_queue_does_nothing_to_a_cancelled_batch(
    caller: ApiCaller, worker: RunWorker, components: Components, gated: Gated
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(1), "gated")
        await gated.until_begun(1)
        await cancel(caller, batch)
        await caller.end(batch)
    before = await caller.get(f"/batches/{batch}?expand=progress,results")
    for stage in (Stage.COPY, Stage.VALIDATE, Stage.CHUNK, Stage.RESULTS, Stage.CANCEL):
        await components.dispatcher.handle(Job(stage, BatchId(UUID(batch)), 0))
    assert (await caller.get(f"/batches/{batch}?expand=progress,results")).body == before.body
    assert gated.begun == [1]
