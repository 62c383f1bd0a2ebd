"""A batch really has each status of the contract, in the database, one after the other."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.domain.batches import END_STATUSES, Status
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from tests.support.callers import ApiCaller, lines_of
from tests.support.gated_operation import Gated, numbered_lines
from tests.support.history import GONE, History
from tests.support.polling import eventually
from tests.support.slow_storage import SlowStorage

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

GOOD = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
BAD = lines_of({"path": {"batch": "no UUID"}})

TO_PROCESSING = ["new", "copying", "copied", "validating", "processing"]
SUCCESS = [*TO_PROCESSING, "processed", "writing_results", "completed"]
MISMATCH = ["new", "copying", "hash_mismatch"]
FAILURE = ["new", "copying", "copied", "validating", "validation_failed"]
CANCEL = ["cancel", "cancelling", "cancelled"]
REMOVAL = ["deleting", GONE]


def test_the_lives_below_have_every_status() -> None:
    lives = {*SUCCESS, *MISMATCH, *FAILURE, *CANCEL, *REMOVAL}
    assert lives == set(Status) | {GONE}


Files = Callable[[], Awaitable[list[str]]]


@pytest.fixture
def files(components: Components, caller: ApiCaller) -> Files:
    """Return a function that lists the account's files: uploads, and those of its batches."""
    storage = components.dispatcher._context.storage

    async def find() -> list[str]:
        found = []
        for area in ("uploads", "batches"):
            prefix = f"{area}/{caller.user.user.account}/"
            found += [key.removeprefix(prefix) async for key in storage.list_keys(prefix)]
        return found

    return find


async def is_left(files: Files, start: str | None) -> None:
    """Wait until nothing is left but one file with that start; the last ones go after the end."""
    wanted = [] if start is None else [True]
    await eventually(files, lambda found: [key.startswith(start or "") for key in found] == wanted)


async def test_batch_that_succeeds(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    async with worker():
        batch = await caller.create(GOOD)
        assert await caller.end(batch) == "completed"
        # The upload, the copy and the parts go.
        await is_left(files, f"{batch}/results.")
    assert await history.of(batch) == SUCCESS


async def test_batch_without_lines_has_the_same_life(
    caller: ApiCaller, worker: RunWorker, history: History
) -> None:
    async with worker():
        batch = await caller.create(b"\n")
        assert await caller.end(batch) == "completed"
    assert await history.of(batch) == SUCCESS


async def test_batch_whose_copy_has_another_hash(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    async with worker():
        batch = await caller.create(GOOD, hash="0" * 64)
        assert await caller.end(batch) == "hash_mismatch"
        await is_left(files, None)
    assert await history.of(batch) == MISMATCH


async def test_batch_with_a_line_that_is_not_valid(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    async with worker():
        batch = await caller.create(GOOD + BAD)
        assert await caller.end(batch) == "validation_failed"
        await is_left(files, f"{batch}/report.")
    assert await history.of(batch) == FAILURE


# Cancelled on the way


async def cancel(caller: ApiCaller, batch: str) -> None:
    reply = await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    assert (reply.status, reply.body["status"]) == (200, "cancel"), reply


async def test_batch_cancelled_while_it_is_new(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    batch = await caller.create(GOOD)
    await cancel(caller, batch)
    async with worker():
        assert await caller.end(batch) == "cancelled"
        await is_left(files, None)
    assert await history.of(batch) == ["new", *CANCEL]


@pytest.mark.parametrize("status", ["copying", "validating"])
async def test_batch_cancelled_while_its_file_is_being_read(
    caller: ApiCaller,
    worker: RunWorker,
    components: Components,
    history: History,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    batch = await caller.create(GOOD)
    if status == "validating":
        await components.dispatcher.handle(Job(Stage.COPY, BatchId(UUID(batch))))
    storage = SlowStorage(monkeypatch)
    async with worker():
        await eventually(lambda: caller.status(batch), status.__eq__)
        await cancel(caller, batch)
        # At once, although the one who reads does not know yet.
        assert await caller.end(batch, within_s=2) == "cancelled"
        storage.let.set()
        await storage.went_on.wait()
        # Whatever it still writes, it takes back.
        await is_left(files, None)
    life = TO_PROCESSING[: TO_PROCESSING.index(status) + 1]
    assert await history.of(batch) == [*life, *CANCEL]


async def test_batch_cancelled_when_it_is_copied(
    caller: ApiCaller, worker: RunWorker, components: Components, history: History, files: Files
) -> None:
    batch = await caller.create(GOOD)
    await components.dispatcher.handle(Job(Stage.COPY, BatchId(UUID(batch))))
    await cancel(caller, batch)
    async with worker():
        assert await caller.end(batch) == "cancelled"
        await is_left(files, None)
    assert await history.of(batch) == ["new", "copying", "copied", *CANCEL]


async def test_batch_cancelled_while_its_lines_run(
    caller: ApiCaller, worker: RunWorker, gated: Gated, history: History, files: Files
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(3), "gated")
        await gated.until_begun(3)
        await cancel(caller, batch)
        assert await caller.end(batch) == "cancelled"
        await is_left(files, f"{batch}/results.")
    assert await history.of(batch) == [*TO_PROCESSING, *CANCEL]


# Deleted at the end


async def test_batch_is_deleted_from_each_end(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    cancelled = await caller.create(GOOD)
    await cancel(caller, cancelled)
    async with worker():
        lives = {
            cancelled: ["new", *CANCEL],
            await caller.create(GOOD): SUCCESS,
            await caller.create(BAD): FAILURE,
            await caller.create(GOOD, hash="0" * 64): MISMATCH,
        }
        assert {await caller.end(batch) for batch in lives} == set(END_STATUSES)
        for batch in lives:
            reply = await caller.call("DELETE", f"/batches/{batch}")
            assert (reply.status, reply.body["status"]) == (200, "deleting")
        for batch, life in lives.items():
            await eventually(partial(history.of, batch), [*life, *REMOVAL].__eq__)
            assert (await caller.get(f"/batches/{batch}")).status == 404
        await is_left(files, None)
