"""A batch ends although files are missing from the storage: its rows are enough."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.ports import Storage
from batchd.pipeline.dead_letter import dead_letter
from batchd.pipeline.dispatcher import MAX_DEFECTS
from batchd.plugins.s3.storage import S3Storage
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.s3_storage import fail_to_read, get, keys_of, put
from tests.support.stepping import TO_PROCESSED, TO_PROCESSING, step

pytestmark = pytest.mark.slow

LINES = 5

RESULTS = [{"line": n, "id": f"n{n}", "outcome": "succeeded"} for n in range(1, LINES + 1)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": LINES})


@pytest.fixture
def storage(components: Components) -> Storage:
    return components.dispatcher._context.storage


@pytest.fixture
async def half_run(caller: ApiCaller, components: Components, gated: GatedOperation) -> str:
    """Return a batch of two chunks, of which the first one was run."""
    gated.release(LINES)
    batch = await caller.create(numbered_lines(2 * LINES), "gated")
    await step(components, batch, *TO_PROCESSED)
    return batch


async def delete_files(storage: Storage, caller: ApiCaller, batch: str, infix: str) -> list[str]:
    """Delete the files of the batch that have this in their key, as a lifecycle rule may."""
    prefix = f"batches/{caller.user.user.account}/{batch}/{infix}"
    keys = await keys_of(storage, prefix)
    assert keys
    await storage.delete(keys)
    return keys


async def fail_until_dead_letter(components: Components, batch: str, stage: Stage) -> None:
    for _ in range(MAX_DEFECTS - 1):
        with pytest.raises(Exception, match="batches/"):
            await step(components, batch, stage)
    await step(components, batch, stage)


async def outcomes(caller: ApiCaller, batch: str) -> list[dict[str, Any]]:
    attributes = {"line", "id", "outcome"}
    return [
        {name: value for name, value in line.items() if name in attributes}
        for line in await caller.download(batch)
    ]


async def test_cancelled_batch_with_a_missing_copy_keeps_its_results(
    caller: ApiCaller, components: Components, storage: Storage, half_run: str
) -> None:
    await delete_files(storage, caller, half_run, "copy")
    await caller.call("PATCH", f"/batches/{half_run}", json={"status": "cancel"})
    await step(components, half_run, Stage.CANCEL)
    assert await caller.status(half_run) == "cancelled"
    assert await outcomes(caller, half_run) == RESULTS + [
        {"line": n, "outcome": "cancelled"} for n in range(LINES + 1, 2 * LINES + 1)
    ]
    body = (await caller.get(f"/batches/{half_run}?expand=progress")).body
    assert (body["progress"]["succeeded"], body["progress"]["cancelled"]) == (LINES, LINES)


async def test_batch_with_a_missing_copy_completes_with_failed_lines(
    caller: ApiCaller, components: Components, storage: Storage, half_run: str
) -> None:
    await delete_files(storage, caller, half_run, "copy")
    job = Job(Stage.CHUNK, BatchId(UUID(half_run)), 1)
    for _ in range(MAX_DEFECTS - 1):
        with pytest.raises(Exception, match="copy"):
            await components.dispatcher.handle(job)
    await components.dispatcher.handle(job)
    await step(components, half_run, Stage.RESULTS)
    assert await caller.status(half_run) == "completed"
    assert await outcomes(caller, half_run) == RESULTS + [
        {"line": n, "outcome": "failed"} for n in range(LINES + 1, 2 * LINES + 1)
    ]
    body = (await caller.get(f"/batches/{half_run}?expand=errors")).body
    assert body["errors"] == {"500": {"count": LINES, "lines": [6, 7, 8, 9, 10]}}


async def test_lines_fail_if_their_part_and_the_copy_are_missing(
    caller: ApiCaller,
    components: Components,
    storage: Storage,
    gated: GatedOperation,
    half_run: str,
) -> None:
    gated.release(LINES)
    await components.dispatcher.handle(Job(Stage.CHUNK, BatchId(UUID(half_run)), 1))
    await delete_files(storage, caller, half_run, "copy")
    await delete_files(storage, caller, half_run, "parts/1.")
    await fail_until_dead_letter(components, half_run, Stage.RESULTS)
    assert await caller.status(half_run) == "completed"
    assert await outcomes(caller, half_run) == RESULTS + [
        {"line": n, "outcome": "failed"} for n in range(LINES + 1, 2 * LINES + 1)
    ]


async def test_lines_of_a_truncated_part_fail(
    caller: ApiCaller,
    components: Components,
    storage: Storage,
    gated: GatedOperation,
    half_run: str,
) -> None:
    gated.release(LINES)
    await components.dispatcher.handle(Job(Stage.CHUNK, BatchId(UUID(half_run)), 1))
    (part,) = await keys_of(storage, f"batches/{caller.user.user.account}/{half_run}/parts/1.")
    await put(storage, part, (await get(storage, part))[:-10])
    for _ in range(MAX_DEFECTS - 1):
        with pytest.raises(ValueError, match="has 10 lines, but 9 results"):
            await step(components, half_run, Stage.RESULTS)
    await step(components, half_run, Stage.RESULTS)
    assert await outcomes(caller, half_run) == RESULTS + [
        {"line": n, "id": f"n{n}", "outcome": "failed"} for n in range(LINES + 1, 2 * LINES + 1)
    ]


async def test_cancelled_batch_whose_copy_alone_cannot_be_read_keeps_its_results(
    caller: ApiCaller, components: Components, half_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage answers 500 to it, but does what the worker's probe asks for."""
    fail_to_read(monkeypatch, "/copy.", ProcessingTimeout("The storage is not responding."))
    await caller.call("PATCH", f"/batches/{half_run}", json={"status": "cancel"})
    with pytest.raises(ProcessingTimeout):
        await step(components, half_run, Stage.CANCEL)
    await dead_letter(components.dispatcher._context, Job(Stage.CANCEL, BatchId(UUID(half_run))))
    assert await caller.status(half_run) == "cancelled"
    assert await outcomes(caller, half_run) == RESULTS + [
        {"line": n, "outcome": "cancelled"} for n in range(LINES + 1, 2 * LINES + 1)
    ]


async def test_lines_of_a_part_that_alone_cannot_be_read_are_failed(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    half_run: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gated.release(LINES)
    await components.dispatcher.handle(Job(Stage.CHUNK, BatchId(UUID(half_run)), 1))
    fail_to_read(monkeypatch, "/parts/1.", ProcessingTimeout("The storage is not responding."))
    with pytest.raises(ProcessingTimeout):
        await step(components, half_run, Stage.RESULTS)
    await dead_letter(components.dispatcher._context, Job(Stage.RESULTS, BatchId(UUID(half_run))))
    assert await caller.status(half_run) == "completed"
    assert await outcomes(caller, half_run) == RESULTS + [
        {"line": n, "id": f"n{n}", "outcome": "failed"} for n in range(LINES + 1, 2 * LINES + 1)
    ]


@pytest.mark.parametrize(
    ("copy_is_gone", "numbers"),
    [(False, [1, 4, 5, 6, 7, 8]), (True, [1, 2, 3, 4, 5, 8])],
    ids=["copy", "rows"],
)
async def test_line_numbers_come_from_the_rows_if_the_copy_is_missing(
    caller: ApiCaller,
    components: Components,
    storage: Storage,
    copy_is_gone: bool,
    numbers: list[int],
) -> None:
    """The rows know where a chunk begins and how many lines it has, but not the blank ones."""
    first, *others = numbered_lines(LINES + 1).splitlines()
    data = b"\n".join([first, b"", b"", *others, b""])
    batch = await caller.create(data, "gated")
    await step(components, batch, *TO_PROCESSING)
    if copy_is_gone:
        await delete_files(storage, caller, batch, "copy")
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    await step(components, batch, Stage.CANCEL)
    assert [line["line"] for line in await caller.download(batch)] == numbers


async def test_lines_that_were_not_run_are_read_by_one_call_of_the_storage(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of six chunks, the fourth was run; the fifth begins far behind the third."""
    gated.release(LINES)
    first, *others = numbered_lines(6 * LINES, padding=100_000).splitlines()
    batch = await caller.create(b"\n".join([first, b"", *others]), "gated")
    await step(components, batch, *TO_PROCESSING)
    await components.dispatcher.handle(Job(Stage.CHUNK, BatchId(UUID(batch)), 3))
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    offsets: list[int] = []
    read = S3Storage.read

    @asynccontextmanager
    async def record_read(
        storage: S3Storage, key: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if "copy" in key:
            offsets.append(offset)
        async with read(storage, key, offset=offset, length=length) as pieces:
            yield pieces

    monkeypatch.setattr(S3Storage, "read", record_read)
    await step(components, batch, Stage.CANCEL)
    results = await outcomes(caller, batch)
    assert [(line["id"], line["line"]) for line in results] == [("n1", 1)] + [
        (f"n{n}", n + 1) for n in range(2, 6 * LINES + 1)
    ]
    succeeded = [line["id"] for line in results if line["outcome"] == "succeeded"]
    assert succeeded == [f"n{n}" for n in range(3 * LINES + 1, 4 * LINES + 1)]
    assert len(offsets) == 2
