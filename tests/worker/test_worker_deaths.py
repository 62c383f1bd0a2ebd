"""A stage that kills its workers is not repeated for ever: its batch ends in the database alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.db import job_failures
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.pipeline.dispatcher import MAX_DEAD_LETTER_ATTEMPTS, MAX_DEATHS
from batchd.plugins.s3.storage import S3Storage
from batchd.queue.engine import RetryLater
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.slow_storage import SlowStorage
from tests.support.stepping import TO_COPIED, TO_PROCESSED, TO_PROCESSING, step

pytestmark = pytest.mark.slow

LINES = 5
KILLED_AFTER = {
    Stage.COPY: (),
    Stage.VALIDATE: TO_COPIED,
    Stage.RESULTS: TO_PROCESSED,
    Stage.CANCEL: TO_PROCESSING,
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": LINES})


async def die(components: Components, batch: str, stage: Stage, *, times: int) -> None:
    """Start attempts at the stage that never end, as workers do that are killed."""
    async with components.database.connection() as connection:
        for _ in range(times):
            await job_failures.record_start(connection, Job(stage, BatchId(UUID(batch))))


async def row(components: Components, batch: str, stage: Stage) -> tuple[int, str, bool]:
    """Return the deaths, the reason, and whether the job was given up."""
    async with components.database.connection() as connection:
        record = await connection.fetchrow(
            "SELECT deaths, reason, dead_lettered_ts IS NOT NULL FROM troubles WHERE job = $1",
            f"{stage}:{batch}",
        )
    assert record is not None
    return record[0], record[1], record[2]


async def batch_before(
    stage: Stage, caller: ApiCaller, components: Components, gated: GatedOperation
) -> str:
    """Return a batch whose next stage is this one."""
    gated.release(LINES)
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *KILLED_AFTER[stage])
    if stage is Stage.CANCEL:
        await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    return batch


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        (Stage.COPY, "copied"),
        (Stage.VALIDATE, "validation_failed"),
        (Stage.RESULTS, "completed"),
        (Stage.CANCEL, "cancelled"),
    ],
)
async def test_stage_that_killed_its_workers_is_ended(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
    stage: Stage,
    status: str,
) -> None:
    batch = await batch_before(stage, caller, components, gated)
    read_keys: list[str] = []
    read = S3Storage.read

    @asynccontextmanager
    async def record_read(
        storage: S3Storage, key: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        read_keys.append(key)
        async with read(storage, key, offset=offset, length=length) as pieces:
            yield pieces

    monkeypatch.setattr(S3Storage, "read", record_read)
    # The last of them is found out by the attempt that gives up.
    await die(components, batch, stage, times=MAX_DEATHS)
    await step(components, batch, stage)
    assert await caller.status(batch) == status
    assert [key for key in read_keys if "/parts/" not in key] == []
    assert await row(components, batch, stage) == (
        MAX_DEATHS,
        f"{MAX_DEATHS} workers died of it",
        True,
    )


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        (Stage.VALIDATE, "validation_failed"),
        (Stage.RESULTS, "cancelled"),
        (Stage.CANCEL, "cancelled"),
    ],
)
async def test_stage_whose_dead_lettering_killed_its_workers_is_ended_without_files(
    caller: ApiCaller, components: Components, gated: GatedOperation, stage: Stage, status: str
) -> None:
    batch = await batch_before(stage, caller, components, gated)
    await die(components, batch, stage, times=MAX_DEATHS + MAX_DEAD_LETTER_ATTEMPTS)
    await step(components, batch, stage)
    body = (await caller.get(f"/batches/{batch}?download=true")).body
    assert body["status"] == status
    assert "download" not in body


async def test_deletion_that_killed_its_workers_is_ended(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(b"", "gated")
    await step(components, batch, Stage.COPY, Stage.VALIDATE, Stage.RESULTS)
    await caller.call("DELETE", f"/batches/{batch}")
    await die(components, batch, Stage.DELETE, times=MAX_DEATHS)
    await step(components, batch, Stage.DELETE)
    assert (await caller.get(f"/batches/{batch}")).status == 404


async def test_stopped_worker_is_not_counted_as_dead(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    storage = SlowStorage(monkeypatch)
    for _ in range(2):
        attempt = asyncio.create_task(step(components, batch, Stage.COPY))
        await storage.read_requested.wait()
        storage.read_requested.clear()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    assert await row(components, batch, Stage.COPY) == (0, "", False)


async def test_worker_that_waits_for_running_chunks_is_not_counted_as_dead(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    running = asyncio.create_task(step(components, batch, Stage.CHUNK))
    await gated.wait_started(1)
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    for _ in range(2):
        with pytest.raises(RetryLater):
            await step(components, batch, Stage.CANCEL)
    assert await row(components, batch, Stage.CANCEL) == (0, "", False)
    await running


async def test_supervisor_reports_deaths(
    caller: ApiCaller, components: Components, caplog: pytest.LogCaptureFixture
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    await die(components, batch, Stage.COPY, times=3)
    await components.dispatcher.supervise()
    assert f"batch {batch} is stuck in new: copy:{batch}, 2 failures" in caplog.text
    assert "last: the worker died" in caplog.text
