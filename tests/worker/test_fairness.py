"""Accounts share the workers, and small batches do not wait for large ones."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from batchd.domain.jobs import EXPRESS_MAX_BYTES
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.gated_operation import Gated, numbered_lines
from tests.support.polling import eventually

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

CHUNK = 10


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Let two chunks of ten lines run at a time, each line after the other."""
    return settings.model_copy(
        update={"chunk_lines": CHUNK, "worker_slots": 2, "line_concurrency": 1}
    )


def large(lines: int, *, first: int) -> bytes:
    """Return a file that is not small."""
    padding = "x" * (EXPRESS_MAX_BYTES // lines + 1)
    return lines_of(*({"path": {"first": first, "padding": padding}} for _ in range(lines)))


def begun_before_the_end_of(batch: str, gated: Gated) -> int:
    """Return how many lines of other batches had begun before the last one of this batch."""
    last = len(gated.batches) - gated.batches[::-1].index(batch)
    return sum(other != batch for other in gated.batches[:last])


async def test_small_batch_of_another_account_is_done_while_a_large_one_holds_every_place(
    make_caller: MakeCaller, caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    async with worker():
        giant = await caller.create(large(10 * CHUNK, first=0), "gated")
        await gated.until_begun(2)
        neighbour = await make_caller()
        target = await neighbour.create(b"")
        small = await neighbour.create(lines_of(*({"path": {"batch": target}} for _ in range(10))))
        assert await neighbour.end(small, within_s=2) == "completed"
        assert await caller.status(giant) == "processing"
        assert len(gated.begun) == 2


async def test_chunks_of_two_accounts_are_run_in_turn(
    make_caller: MakeCaller, caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    neighbour = await make_caller()
    async with worker():
        giant = await caller.create(large(12 * CHUNK, first=0), "gated")
        await gated.until_begun(2)
        late = await neighbour.create(large(4 * CHUNK, first=1), "gated")
        await eventually(lambda: neighbour.status(late), "processing".__eq__)
        gated.let(16 * CHUNK)
        assert await neighbour.end(late) == "completed"
        assert await caller.end(giant) == "completed"
    # Two chunks were under way already; from then on it was one for each.
    assert begun_before_the_end_of(late, gated) <= 7 * CHUNK


async def test_urgent_batch_overtakes_another_of_its_account(
    caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    async with worker():
        usual = await caller.create(large(12 * CHUNK, first=0), "gated")
        await gated.until_begun(2)
        urgent = await caller.create(large(4 * CHUNK, first=1), "gated", priority=10)
        await eventually(lambda: caller.status(urgent), "processing".__eq__)
        gated.let(16 * CHUNK)
        assert await caller.end(urgent) == "completed"
        assert (await caller.get(f"/batches/{urgent}?expand=priority")).body["priority"] == 10
        assert await caller.end(usual) == "completed"
    assert begun_before_the_end_of(urgent, gated) <= 3 * CHUNK


async def test_cancel_reaches_a_running_chunk_without_waiting_for_its_pulse(
    caller: ApiCaller, worker: RunWorker, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchd.pipeline.chunks.lease._HEARTBEAT_INTERVAL_S", 60.0)
    async with worker():
        batch = await caller.create(numbered_lines(3), "gated")
        await gated.until_begun(1)
        await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
        assert await caller.end(batch, within_s=2) == "cancelled"
    assert [line["outcome"] for line in await caller.download(batch)] == ["cancelled"] * 3
