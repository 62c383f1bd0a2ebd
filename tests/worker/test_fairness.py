"""Accounts share the workers fairly, and small batches do not wait for large ones."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from batchd.domain.jobs import EXPRESS_MAX_BYTES
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.polling import NEVER_S, eventually

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

CHUNK = 10


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Let two chunks of ten lines run concurrently, each line by line."""
    return settings.model_copy(
        update={
            "chunk_lines": CHUNK,
            "worker_slots": 2,
            "line_concurrency": 1,
            "lease_s": NEVER_S,
        }
    )


def large_file(lines: int, *, label: int) -> bytes:
    """Return a file that is too large for the express lane."""
    padding = "x" * (EXPRESS_MAX_BYTES // lines + 1)
    return lines_of(*({"path": {"label": label, "padding": padding}} for _ in range(lines)))


def lines_started_before_the_last_of(batch: str, gated: GatedOperation) -> int:
    """Return how many lines of other batches started before the last line of this batch."""
    last = len(gated.started_batches) - gated.started_batches[::-1].index(batch)
    return sum(other != batch for other in gated.started_batches[:last])


async def test_small_batch_completes_while_a_large_one_occupies_every_slot(
    make_caller: MakeCaller, caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    async with worker():
        giant = await caller.create(large_file(10 * CHUNK, label=0), "gated")
        await gated.wait_started(2)
        neighbour = await make_caller()
        target = await neighbour.create(b"")
        small = await neighbour.create(lines_of(*({"path": {"batch": target}} for _ in range(10))))
        assert await neighbour.end(small) == "completed"
        assert await caller.status(giant) == "processing"
        assert len(gated.started) == 2


async def test_chunks_of_two_accounts_run_in_turn(
    make_caller: MakeCaller, caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    neighbour = await make_caller()
    async with worker():
        giant = await caller.create(large_file(12 * CHUNK, label=0), "gated")
        await gated.wait_started(2)
        late = await neighbour.create(large_file(4 * CHUNK, label=1), "gated")
        await eventually(lambda: neighbour.status(late), "processing".__eq__)
        gated.release(16 * CHUNK)
        assert await neighbour.end(late) == "completed"
        assert await caller.end(giant) == "completed"
    # Two chunks were running already; from then on the accounts take turns.
    assert lines_started_before_the_last_of(late, gated) <= 7 * CHUNK


async def test_urgent_batch_overtakes_another_batch_of_its_account(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    async with worker():
        usual = await caller.create(large_file(12 * CHUNK, label=0), "gated")
        await gated.wait_started(2)
        urgent = await caller.create(large_file(4 * CHUNK, label=1), "gated", priority=10)
        await eventually(lambda: caller.status(urgent), "processing".__eq__)
        gated.release(16 * CHUNK)
        assert await caller.end(urgent) == "completed"
        assert (await caller.get(f"/batches/{urgent}?expand=priority")).body["priority"] == 10
        assert await caller.end(usual) == "completed"
    assert lines_started_before_the_last_of(urgent, gated) <= 3 * CHUNK


async def test_cancel_stops_a_running_chunk_without_waiting_for_its_heartbeat(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchd.pipeline.chunks.lease._HEARTBEAT_INTERVAL_S", NEVER_S)
    async with worker():
        batch = await caller.create(numbered_lines(3), "gated")
        await gated.wait_started(1)
        await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
        assert await caller.end(batch) == "cancelled"
    assert [line["outcome"] for line in await caller.download(batch)] == ["cancelled"] * 3
