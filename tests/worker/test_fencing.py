"""Whoever has been replaced changes nothing any more."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.db import batches, chunks
from batchd.domain.batches import Status
from batchd.domain.chunks import Chunk
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.pipeline.chunks.runner import MAX_CLAIMS
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import Gated, numbered_lines
from tests.support.slow_storage import SlowStorage

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

LINES = 5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": LINES})


async def handle(
    components: Components, batch: str, stage: Stage, chunk: int | None = None
) -> None:
    """Do the stage's work here and now."""
    await components.dispatcher.handle(Job(stage, BatchId(UUID(batch)), chunk))


async def batch_to_run(caller: ApiCaller, components: Components, lines: int = LINES) -> str:
    """Make a batch whose lines are about to run."""
    batch = await caller.create(numbered_lines(lines), "gated")
    await handle(components, batch, Stage.COPY)
    await handle(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "processing"
    return batch


async def take(components: Components, batch: str, *, lease_s: float) -> Chunk:
    """Take the first chunk like a worker that is never heard of again."""
    async with components.database.connection() as connection:
        taken = await chunks.claim(connection, BatchId(UUID(batch)), 0, lease_s=lease_s)
    assert taken is not None
    return taken[0]


async def files(
    components: Components, caller: ApiCaller, batch: str, folder: str = ""
) -> list[str]:
    """Return what the batch has in the storage."""
    prefix = f"batches/{caller.user.user.account}/{batch}/{folder}"
    keys = components.dispatcher._context.storage.list_keys(prefix)
    return [key.removeprefix(prefix) async for key in keys]


async def parts(components: Components, caller: ApiCaller, batch: str) -> list[str]:
    """Return the results of chunks that are in the storage."""
    return await files(components, caller, batch, "parts/")


# Chunks


async def test_results_of_a_replaced_worker_are_refused_and_removed(
    caller: ApiCaller, components: Components, gated: Gated
) -> None:
    batch = await batch_to_run(caller, components)
    first = asyncio.create_task(handle(components, batch, Stage.CHUNK, 0))
    await gated.until_begun(LINES)
    second = asyncio.create_task(handle(components, batch, Stage.CHUNK, 0))
    await gated.until_begun(2 * LINES)
    # The first ends all its lines before it can have noticed.
    gated.let(LINES)
    await first
    assert gated.ended == list(range(1, LINES + 1))
    assert await parts(components, caller, batch) == []
    assert await caller.status(batch) == "processing"
    gated.let(LINES)
    await second
    assert await parts(components, caller, batch) == ["0.2"]
    assert await caller.status(batch) == "processed"
    await handle(components, batch, Stage.RESULTS)
    assert [line["line"] for line in await caller.download(batch)] == list(range(1, LINES + 1))


async def test_replaced_worker_stops_of_itself(
    caller: ApiCaller, components: Components, gated: Gated
) -> None:
    batch = await batch_to_run(caller, components)
    first = asyncio.create_task(handle(components, batch, Stage.CHUNK, 0))
    await gated.until_begun(LINES)
    await take(components, batch, lease_s=60)
    async with asyncio.timeout(5):
        await first
    assert gated.ended == []
    assert await parts(components, caller, batch) == []


async def test_chunk_that_is_done_is_not_run_again(
    caller: ApiCaller, components: Components, gated: Gated
) -> None:
    batch = await batch_to_run(caller, components, 2 * LINES)
    gated.let(4 * LINES)
    await handle(components, batch, Stage.CHUNK, 0)
    await handle(components, batch, Stage.CHUNK, 0)
    assert gated.begun == list(range(1, LINES + 1))
    assert await caller.status(batch) == "processing"
    await handle(components, batch, Stage.CHUNK, 1)
    assert await caller.status(batch) == "processed"


async def test_chunk_that_kills_every_worker_fails_and_lets_the_others_go_on(
    caller: ApiCaller, components: Components, gated: Gated
) -> None:
    batch = await batch_to_run(caller, components, 2 * LINES)
    for _ in range(MAX_CLAIMS):
        await take(components, batch, lease_s=0.1)
    gated.let(LINES)
    await handle(components, batch, Stage.CHUNK, 0)
    await handle(components, batch, Stage.CHUNK, 1)
    await handle(components, batch, Stage.RESULTS)
    results = await caller.download(batch)
    assert [line["line"] for line in results] == list(range(1, 2 * LINES + 1))
    assert [line["status"] for line in results] == [500] * LINES + [200] * LINES
    assert {line["body"]["subcode"] for line in results[:LINES]} == {500000}


async def test_cancel_waits_for_a_dead_worker_no_longer_than_its_lease(
    caller: ApiCaller, components: Components, worker: RunWorker, gated: Gated
) -> None:
    batch = await batch_to_run(caller, components)
    dead = await take(components, batch, lease_s=1.0)
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    async with worker():
        assert await caller.end(batch, within_s=4) == "cancelled"
    assert {line["outcome"] for line in await caller.download(batch)} == {"cancelled"}
    # Should it come back to life, it is told that it has been replaced.
    async with components.database.connection() as connection:
        assert not await chunks.heartbeat(
            connection, BatchId(UUID(batch)), dead, lease_s=1.0, counts=dead.counts
        )


# Stages


@pytest.mark.parametrize(
    ("done", "stage", "begun", "after"),
    [
        ([], Stage.COPY, Status.COPYING, "copied"),
        ([Stage.COPY], Stage.VALIDATE, Status.VALIDATING, "processing"),
        (
            [Stage.COPY, Stage.VALIDATE, Stage.CHUNK],
            Stage.RESULTS,
            Status.WRITING_RESULTS,
            "completed",
        ),
    ],
)
async def test_replaced_worker_ends_no_stage(
    caller: ApiCaller,
    components: Components,
    gated: Gated,
    monkeypatch: pytest.MonkeyPatch,
    done: list[Stage],
    stage: Stage,
    begun: Status,
    after: str,
) -> None:
    gated.let(LINES)
    batch = await caller.create(numbered_lines(LINES), "gated")
    for earlier in done:
        await handle(components, batch, earlier, 0)
    before = await files(components, caller, batch)
    with monkeypatch.context() as patched:
        storage = SlowStorage(patched)
        first = asyncio.create_task(handle(components, batch, stage))
        await storage.asked.wait()
        async with components.database.connection() as connection:
            now = components.dispatcher._context.clock.now()
            assert await batches.claim(connection, BatchId(UUID(batch)), begun, now=now)
        storage.let.set()
        await first
    assert await caller.status(batch) == begun
    assert await files(components, caller, batch) == before
    await handle(components, batch, stage)
    assert await caller.status(batch) == after
