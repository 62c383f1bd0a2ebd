"""A worker that has lost its claim changes nothing any more."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.db import batches, chunks
from batchd.domain.batches import Batch, Status
from batchd.domain.chunks import Chunk
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.storage_keys import copy_key
from batchd.pipeline import copy as copy_stage
from batchd.pipeline.chunks.runner import MAX_CLAIMS
from batchd.pipeline.context import PipelineContext
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.polling import NEVER_S, TIMEOUT_S
from tests.support.slow_storage import SlowStorage

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

LINES = 5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": LINES, "lease_s": NEVER_S})


async def handle(
    components: Components, batch: str, stage: Stage, chunk: int | None = None
) -> None:
    """Run the stage without a worker."""
    await components.dispatcher.handle(Job(stage, BatchId(UUID(batch)), chunk))


async def create_processing_batch(
    caller: ApiCaller, components: Components, lines: int = LINES
) -> str:
    """Create a batch whose chunks can run."""
    batch = await caller.create(numbered_lines(lines), "gated")
    await handle(components, batch, Stage.COPY)
    await handle(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "processing"
    return batch


async def claim_chunk(components: Components, batch: str, *, lease_s: float) -> Chunk:
    """Claim the first chunk like a worker that dies at once."""
    async with components.database.connection() as connection:
        claimed = await chunks.claim(connection, BatchId(UUID(batch)), 0, lease_s=lease_s)
    assert claimed is not None
    return claimed[0]


async def files(
    components: Components, caller: ApiCaller, batch: str, folder: str = ""
) -> list[str]:
    """Return the keys of the batch's files in a folder."""
    prefix = f"batches/{caller.user.user.account}/{batch}/{folder}"
    keys = components.dispatcher._context.storage.list_keys(prefix)
    return [key.removeprefix(prefix) async for key in keys]


async def parts(components: Components, caller: ApiCaller, batch: str) -> list[str]:
    """Return the keys of the chunks' results."""
    return await files(components, caller, batch, "parts/")


# Chunks


async def test_results_of_a_replaced_worker_are_rejected_and_deleted(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    first = asyncio.create_task(handle(components, batch, Stage.CHUNK, 0))
    await gated.wait_started(LINES)
    second = asyncio.create_task(handle(components, batch, Stage.CHUNK, 0))
    await gated.wait_started(2 * LINES)
    # The first finishes its lines before it can notice that its claim is lost.
    gated.release(LINES)
    await first
    assert gated.finished == list(range(1, LINES + 1))
    assert await parts(components, caller, batch) == []
    assert await caller.status(batch) == "processing"
    gated.release(LINES)
    await second
    assert len(await parts(components, caller, batch)) == 1
    assert await caller.status(batch) == "processed"
    await handle(components, batch, Stage.RESULTS)
    assert [line["line"] for line in await caller.download(batch)] == list(range(1, LINES + 1))


async def test_replaced_worker_stops(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    first = asyncio.create_task(handle(components, batch, Stage.CHUNK, 0))
    await gated.wait_started(LINES)
    await claim_chunk(components, batch, lease_s=NEVER_S)
    async with asyncio.timeout(TIMEOUT_S):
        await first
    assert gated.finished == []
    assert await parts(components, caller, batch) == []


async def test_completed_chunk_is_not_run_again(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components, 2 * LINES)
    gated.release(4 * LINES)
    await handle(components, batch, Stage.CHUNK, 0)
    await handle(components, batch, Stage.CHUNK, 0)
    assert gated.started == list(range(1, LINES + 1))
    assert await caller.status(batch) == "processing"
    await handle(components, batch, Stage.CHUNK, 1)
    assert await caller.status(batch) == "processed"


async def test_lines_of_a_chunk_that_kills_its_workers_fail_without_the_others(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components, 2 * LINES)
    for _ in range(MAX_CLAIMS):
        await claim_chunk(components, batch, lease_s=0.1)
    gated.release(LINES)
    await handle(components, batch, Stage.CHUNK, 0)
    await handle(components, batch, Stage.CHUNK, 1)
    await handle(components, batch, Stage.RESULTS)
    results = await caller.download(batch)
    assert [line["line"] for line in results] == list(range(1, 2 * LINES + 1))
    assert [line["status"] for line in results] == [500] * LINES + [200] * LINES
    assert {line["body"]["subcode"] for line in results[:LINES]} == {500000}


async def test_cancel_waits_for_a_dead_worker_only_until_its_lease_expires(
    caller: ApiCaller, components: Components, worker: RunWorker, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    chunk = await claim_chunk(components, batch, lease_s=1.0)
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    async with worker():
        assert await caller.end(batch) == "cancelled"
    assert {line["outcome"] for line in await caller.download(batch)} == {"cancelled"}
    # Should the worker still be alive, its next heartbeat tells it that the claim is lost.
    async with components.database.connection() as connection:
        assert not await chunks.heartbeat(
            connection, BatchId(UUID(batch)), chunk, lease_s=1.0, counts=chunk.counts, size=0
        )


async def test_claims_that_the_database_has_forgotten_share_nothing_with_later_ones(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    """A standby was promoted that had not received the claim: its counter starts over."""
    batch = await create_processing_batch(caller, components)
    stale = asyncio.create_task(handle(components, batch, Stage.CHUNK, 0))
    await gated.wait_started(LINES)
    async with components.database.connection() as connection:
        await connection.execute(
            "UPDATE chunks SET token = 0, fencing_token = NULL, leased_until = NULL"
        )
    current = asyncio.create_task(handle(components, batch, Stage.CHUNK, 0))
    await gated.wait_started(2 * LINES)
    gated.release(2 * LINES)
    await stale
    await current
    assert await caller.status(batch) == "processed"
    await handle(components, batch, Stage.RESULTS)
    assert [line["line"] for line in await caller.download(batch)] == list(range(1, LINES + 1))


async def test_stage_that_the_database_has_forgotten_shares_no_key_with_a_later_claim(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(b"{}\n")
    async with components.database.connection() as connection:
        claims = []
        for _ in range(2):
            await connection.execute(
                "UPDATE batches SET status = 'new', attempt = 0, fencing_token = NULL"
            )
            now = components.dispatcher._context.clock.now()
            claims.append(
                await batches.claim(connection, BatchId(UUID(batch)), Status.COPYING, now=now)
            )
    first, second = claims
    assert first is not None
    assert second is not None
    assert copy_key(first) != copy_key(second)
    async with components.database.connection() as connection:
        assert not await batches.is_claimed(
            connection, first.batch, status=first.status, fencing_token=first.fencing_token
        )


@pytest.mark.parametrize(
    "stages_before",
    [
        pytest.param([Stage.COPY], id="copied"),
        pytest.param([Stage.COPY, Stage.VALIDATE], id="processing"),
        pytest.param([Stage.COPY, Stage.VALIDATE, Stage.CHUNK], id="processed"),
    ],
)
async def test_batch_of_the_previous_version_goes_on(
    caller: ApiCaller, components: Components, gated: GatedOperation, stages_before: list[Stage]
) -> None:
    """It has no fencing tokens, and its files carry numbers."""
    gated.release(LINES)
    batch = await caller.create(numbered_lines(LINES), "gated")
    for stage in stages_before:
        await handle(components, batch, stage, 0)
    async with components.database.connection() as connection:
        await connection.execute("UPDATE batches SET fencing_token = NULL")
        await connection.execute("UPDATE chunks SET fencing_token = NULL")
    for stage in (Stage.COPY, Stage.VALIDATE, Stage.CHUNK, Stage.RESULTS):
        await handle(components, batch, stage, 0)
    assert await caller.status(batch) == "completed"
    assert [line["line"] for line in await caller.download(batch)] == list(range(1, LINES + 1))


# Stages


@pytest.mark.parametrize(
    ("previous_stages", "stage", "claimed_status", "next_status"),
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
async def test_replaced_worker_completes_no_stage(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
    previous_stages: list[Stage],
    stage: Stage,
    claimed_status: Status,
    next_status: str,
) -> None:
    gated.release(LINES)
    batch = await caller.create(numbered_lines(LINES), "gated")
    for previous_stage in previous_stages:
        await handle(components, batch, previous_stage, 0)
    keys = await files(components, caller, batch)
    with monkeypatch.context() as patched:
        storage = SlowStorage(patched)
        first = asyncio.create_task(handle(components, batch, stage))
        await storage.read_requested.wait()
        async with components.database.connection() as connection:
            now = components.dispatcher._context.clock.now()
            assert await batches.claim(connection, BatchId(UUID(batch)), claimed_status, now=now)
        storage.unblocked.set()
        await first
    assert await caller.status(batch) == claimed_status
    assert await files(components, caller, batch) == keys
    await handle(components, batch, stage)
    assert await caller.status(batch) == next_status


async def test_frozen_copy_deletes_nothing_of_a_batch_that_was_completed_meanwhile(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It thaws right before it would end the batch as hash_mismatch."""
    lines = b'{"path": {"batch": "00000000-0000-7000-8000-000000000000"}}\n'
    batch = await caller.create(lines, hash=hashlib.sha256(lines).hexdigest())
    frozen, thaw = asyncio.Event(), asyncio.Event()
    copy_upload = copy_stage._copy_upload

    async def freeze(context: PipelineContext, claimed: Batch) -> tuple[str, str | None]:
        await copy_upload(context, claimed)
        frozen.set()
        await thaw.wait()
        return "0" * 64, None

    with monkeypatch.context() as patched:
        patched.setattr(copy_stage, "_copy_upload", freeze)
        stale = asyncio.create_task(handle(components, batch, Stage.COPY))
        await frozen.wait()
    for stage in (Stage.COPY, Stage.VALIDATE, Stage.CHUNK, Stage.RESULTS):
        await handle(components, batch, stage, 0 if stage is Stage.CHUNK else None)
    assert await caller.status(batch) == "completed"

    thaw.set()
    await stale

    assert await caller.status(batch) == "completed"
    assert len(await caller.download(batch)) == 1


async def test_mismatch_leaves_no_copy_of_any_attempt(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(b"{}\n", hash="0" * 64)
    async with components.dispatcher._context.storage.write(
        f"batches/{caller.user.user.account}/{batch}/copy.dead"
    ) as writer:
        await writer.write(b"left behind by a worker that died")
    await handle(components, batch, Stage.COPY)
    assert await caller.status(batch) == "hash_mismatch"
    await handle(components, batch, Stage.CLEANUP)
    assert await files(components, caller, batch) == []
