"""A batch passes through the statuses of the contract, and its files are deleted in time."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.domain.batches import Status
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from tests.support.callers import ApiCaller, lines_of
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.history import DELETED, History
from tests.support.polling import eventually
from tests.support.slow_storage import SlowStorage

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

VALID = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
INVALID = lines_of({"path": {"batch": "no UUID"}})

TO_PROCESSING = ["new", "copying", "copied", "validating", "processing"]
SUCCESS = [*TO_PROCESSING, "processed", "writing_results", "completed"]
MISMATCH = ["new", "copying", "hash_mismatch"]
INVALID_FILE = ["new", "copying", "copied", "validating", "validation_failed"]
CANCEL = ["cancel", "cancelling", "cancelled"]
DELETION = ["deleting", DELETED]


def test_expected_histories_contain_every_status() -> None:
    statuses = {*SUCCESS, *MISMATCH, *INVALID_FILE, *CANCEL, *DELETION}
    assert statuses == set(Status) | {DELETED}


Files = Callable[[], Awaitable[list[str]]]


@pytest.fixture
def files(components: Components, caller: ApiCaller) -> Files:
    """Return a function that lists the account's files, uploads included."""
    storage = components.dispatcher._context.storage

    async def find() -> list[str]:
        keys: list[str] = []
        for area in ("uploads", "batches"):
            prefix = f"{area}/{caller.user.user.account}/"
            keys += [key.removeprefix(prefix) async for key in storage.list_keys(prefix)]
        return keys

    return find


async def wait_for_only_file(files: Files, prefix: str) -> None:
    """Wait until the only file is one with that prefix; some are deleted after the end."""
    await eventually(files, lambda keys: [key.startswith(prefix) for key in keys] == [True])


async def wait_for_no_files(files: Files) -> None:
    await eventually(files, lambda keys: not keys)


async def test_batch_completes(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    async with worker():
        batch = await caller.create(VALID)
        assert await caller.end(batch) == "completed"
        # The upload, the copy and the parts are deleted.
        await wait_for_only_file(files, f"{batch}/results.")
    assert await history.of(batch) == SUCCESS


async def test_batch_without_lines_has_the_same_history(
    caller: ApiCaller, worker: RunWorker, history: History
) -> None:
    async with worker():
        batch = await caller.create(b"\n")
        assert await caller.end(batch) == "completed"
    assert await history.of(batch) == SUCCESS


async def test_batch_with_a_hash_mismatch_ends(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    async with worker():
        batch = await caller.create(VALID, hash="0" * 64)
        assert await caller.end(batch) == "hash_mismatch"
        await wait_for_no_files(files)
    assert await history.of(batch) == MISMATCH


async def test_batch_with_an_invalid_line_fails_validation(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    async with worker():
        batch = await caller.create(VALID + INVALID)
        assert await caller.end(batch) == "validation_failed"
        await wait_for_only_file(files, f"{batch}/report.")
    assert await history.of(batch) == INVALID_FILE


# Cancelled


async def cancel(caller: ApiCaller, batch: str) -> None:
    reply = await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    assert (reply.status, reply.body["status"]) == (200, "cancel"), reply


async def test_new_batch_is_cancelled(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    batch = await caller.create(VALID)
    await cancel(caller, batch)
    async with worker():
        assert await caller.end(batch) == "cancelled"
        await wait_for_no_files(files)
    assert await history.of(batch) == ["new", *CANCEL]


@pytest.mark.parametrize("status", ["copying", "validating"])
async def test_batch_is_cancelled_while_its_file_is_being_read(
    caller: ApiCaller,
    worker: RunWorker,
    components: Components,
    history: History,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
) -> None:
    batch = await caller.create(VALID)
    if status == "validating":
        await components.dispatcher.handle(Job(Stage.COPY, BatchId(UUID(batch))))
    storage = SlowStorage(monkeypatch)
    async with worker():
        await eventually(lambda: caller.status(batch), status.__eq__)
        await cancel(caller, batch)
        # At once, although the worker that reads the file has not noticed yet.
        assert await caller.end(batch) == "cancelled"
        storage.unblocked.set()
        await storage.read_resumed.wait()
        # It deletes what it writes after that.
        await wait_for_no_files(files)
    statuses = TO_PROCESSING[: TO_PROCESSING.index(status) + 1]
    assert await history.of(batch) == [*statuses, *CANCEL]


async def test_copied_batch_is_cancelled(
    caller: ApiCaller, worker: RunWorker, components: Components, history: History, files: Files
) -> None:
    batch = await caller.create(VALID)
    await components.dispatcher.handle(Job(Stage.COPY, BatchId(UUID(batch))))
    await cancel(caller, batch)
    async with worker():
        assert await caller.end(batch) == "cancelled"
        await wait_for_no_files(files)
    assert await history.of(batch) == ["new", "copying", "copied", *CANCEL]


async def test_batch_is_cancelled_while_its_lines_run(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation, history: History, files: Files
) -> None:
    async with worker():
        batch = await caller.create(numbered_lines(3), "gated")
        await gated.wait_started(3)
        await cancel(caller, batch)
        assert await caller.end(batch) == "cancelled"
        await wait_for_only_file(files, f"{batch}/results.")
    assert await history.of(batch) == [*TO_PROCESSING, *CANCEL]


# Deleted


@pytest.mark.parametrize(
    ("data", "options", "statuses"),
    [
        pytest.param(VALID, {}, SUCCESS, id="completed"),
        pytest.param(INVALID, {}, INVALID_FILE, id="validation_failed"),
        pytest.param(VALID, {"hash": "0" * 64}, MISMATCH, id="hash_mismatch"),
    ],
)
async def test_batch_is_deleted(
    caller: ApiCaller,
    worker: RunWorker,
    history: History,
    files: Files,
    data: bytes,
    options: dict[str, str],
    statuses: list[str],
) -> None:
    async with worker():
        batch = await caller.create(data, **options)
        assert await caller.end(batch) == statuses[-1]
        await delete(caller, batch)
        await eventually(partial(history.of, batch), [*statuses, *DELETION].__eq__)
        await wait_for_no_files(files)
    assert (await caller.get(f"/batches/{batch}")).status == 404


async def test_cancelled_batch_is_deleted(
    caller: ApiCaller, worker: RunWorker, history: History, files: Files
) -> None:
    batch = await caller.create(VALID)
    await cancel(caller, batch)
    async with worker():
        assert await caller.end(batch) == "cancelled"
        await delete(caller, batch)
        await eventually(partial(history.of, batch), ["new", *CANCEL, *DELETION].__eq__)
        await wait_for_no_files(files)
    assert (await caller.get(f"/batches/{batch}")).status == 404


async def delete(caller: ApiCaller, batch: str) -> None:
    reply = await caller.call("DELETE", f"/batches/{batch}")
    assert (reply.status, reply.body["status"]) == (200, "deleting"), reply
