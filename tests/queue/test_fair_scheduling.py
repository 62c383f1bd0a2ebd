"""Fair scheduling interleaves the queued jobs of the accounts."""

from uuid import uuid4

import asyncpg
import pytest

from batchd.db import accounts
from batchd.domain.batches import Batch
from batchd.domain.ids import AccountId
from batchd.domain.jobs import EXPRESS_MAX_BYTES, Lane, Stage, lane_of
from batchd.queue import fair_scheduling
from tests.support.queued_batches import LARGE, LINES, queue_batch
from tests.support.rows import new_batch

_DELETE_NEXT = """
DELETE FROM pgqueuer WHERE id IN (
    SELECT id FROM pgqueuer ORDER BY priority DESC, id LIMIT $1
) RETURNING dedupe_key
"""
_FIND_IN_ORDER = "SELECT dedupe_key FROM pgqueuer ORDER BY priority DESC, id"


async def chunk_order(
    connection: "asyncpg.Connection[asyncpg.Record]", **names: Batch
) -> list[str]:
    """Return the chunks in the order they would run, as `<name><number>`."""
    rows = await connection.fetch(_FIND_IN_ORDER)
    return [_name_of(row["dedupe_key"], names) for row in rows]


async def run_next(connection: "asyncpg.Connection[asyncpg.Record]", count: int) -> None:
    assert len(await connection.fetch(_DELETE_NEXT, count)) == count


def _name_of(key: str, names: dict[str, Batch]) -> str:
    _, batch_id, number = key.split(":")
    return next(name for name, batch in names.items() if str(batch.batch) == batch_id) + number


async def test_newcomer_runs_at_once_and_then_in_turn(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    giant = await queue_batch(connection, 8)
    await run_next(connection, 3)
    small = await queue_batch(connection, 2)
    assert await chunk_order(connection, g=giant, s=small) == [
        "g3",
        "s0",
        "g4",
        "s1",
        "g5",
        "g6",
        "g7",
    ]


async def test_batches_of_one_account_share_its_turns(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    first = await queue_batch(connection, 2)
    second = await queue_batch(connection, 2, account=first.account)
    other = await queue_batch(connection, 3)
    assert await chunk_order(connection, f=first, s=second, o=other) == [
        *("f0", "o0", "f1", "o1", "s0", "o2", "s1"),
    ]


async def test_idle_account_accumulates_no_credit(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    early = await queue_batch(connection, 1)
    await run_next(connection, 1)
    late = await queue_batch(connection, 6)
    await run_next(connection, 3)
    returning = await queue_batch(connection, 2, account=early.account)
    assert await chunk_order(connection, t=late, r=returning) == ["t3", "r0", "t4", "r1", "t5"]


async def test_weight_gives_a_larger_share(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    heavy = AccountId(uuid4())
    await accounts.set_weight(connection, heavy, 3)
    light = await queue_batch(connection, 3)
    paying = await queue_batch(connection, 6, account=heavy)
    chunk_names = await chunk_order(connection, l=light, p=paying)
    assert chunk_names[:4].count("l0") == 1
    assert [sum(name[0] == "p" for name in chunk_names[start : start + 4]) for start in (0, 4)] == [
        3,
        3,
    ]
    await accounts.set_weight(connection, heavy, 2)
    assert dict(await accounts.find_weights(connection)) == {light.account: 1, heavy: 2}


async def test_urgent_batch_precedes_only_the_batches_of_its_account(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    usual = await queue_batch(connection, 3)
    other = await queue_batch(connection, 3)
    urgent = await queue_batch(connection, 2, account=usual.account, priority=5)
    assert await chunk_order(connection, u=usual, o=other, x=urgent) == [
        *("o0", "x0", "o1", "x1", "u0", "o2", "u1", "u2"),
    ]
    later = await queue_batch(connection, 1, account=usual.account, priority=1)
    assert await chunk_order(connection, u=usual, o=other, x=urgent, l=later) == [
        *("o0", "x0", "o1", "x1", "o2", "l0", "u0", "u1", "u2"),
    ]


async def turns_of(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """Return the priority of each chunk by its key."""
    rows = await connection.fetch("SELECT dedupe_key, priority FROM pgqueuer")
    return {row["dedupe_key"]: row["priority"] for row in rows}


async def batch_order(connection: "asyncpg.Connection[asyncpg.Record]", **names: Batch) -> str:
    """Return the names of the batches in the order in which their chunks would run."""
    return "".join(name[0] for name in await chunk_order(connection, **names))


async def test_urgent_batch_leaves_the_turns_of_long_batches_where_they_are(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    first = await queue_batch(connection, 200)
    second = await queue_batch(connection, 200, account=first.account)
    before = await turns_of(connection)
    urgent = await queue_batch(connection, 30, account=first.account, priority=1)
    after = await turns_of(connection)

    order = await batch_order(connection, f=first, s=second, u=urgent)
    assert order == "u" * 30 + "f" * 200 + "s" * 200
    assert sum(after[key] != turn for key, turn in before.items()) == 60


async def test_urgent_batch_precedes_short_ones_and_keeps_their_order(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    first = await queue_batch(connection, 3)
    second = await queue_batch(connection, 20, account=first.account)
    third = await queue_batch(connection, 5, account=first.account)
    urgent = await queue_batch(connection, 18, account=first.account, priority=1)

    order = await batch_order(connection, f=first, s=second, t=third, u=urgent)
    assert order == "u" * 18 + "f" * 3 + "s" * 20 + "t" * 5


async def test_urgent_batch_displaces_many_batches_as_if_they_were_fewer(
    connection: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fair_scheduling, "_MAX_DISPLACED", 40)
    names = "abcd"
    usual = {"a": await queue_batch(connection, 30)}
    for name in names[1:]:
        usual[name] = await queue_batch(connection, 30, account=usual["a"].account)
    urgent = await queue_batch(connection, 20, account=usual["a"].account, priority=1)

    order = await batch_order(connection, u=urgent, **usual)
    # The first 20 chunks of each pair of batches run at its end.
    assert order == "u" * 20 + "a" * 10 + "b" * 30 + "a" * 20 + "c" * 10 + "d" * 30 + "c" * 20


async def test_urgent_batch_takes_no_turn_of_other_accounts(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    usual = await queue_batch(connection, 100)
    other = await queue_batch(connection, 100)
    before = await turns_of(connection)
    await queue_batch(connection, 20, account=usual.account, priority=1)
    after = await turns_of(connection)

    others_keys = [key for key in before if str(other.batch) in key]
    assert [after[key] for key in others_keys] == [before[key] for key in others_keys]
    assert len({turn for key, turn in after.items() if key not in others_keys}) == 120


async def test_order_is_kept_when_virtual_time_is_reset(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    early = await queue_batch(connection, 5)
    late = await queue_batch(connection, 3)
    await run_next(connection, 4)
    order = await chunk_order(connection, e=early, l=late)
    async with connection.transaction():
        assert await fair_scheduling.rebase(connection, threshold=10 * LINES) is False
        assert await fair_scheduling.rebase(connection, threshold=4 * LINES) is True
    assert await chunk_order(connection, e=early, l=late) == order
    newcomer = await queue_batch(connection, 2)
    new_order = await chunk_order(connection, e=early, l=late, n=newcomer)
    assert new_order.index("n0") <= 2
    assert [name for name in new_order if name[0] != "n"] == order


async def test_small_batches_have_a_separate_lane() -> None:
    small, large = new_batch(size=EXPRESS_MAX_BYTES), new_batch(size=LARGE)
    assert {lane_of(small, stage) for stage in Stage} == {Lane.EXPRESS}
    assert lane_of(large, Stage.CHUNK) is Lane.CHUNKS
    assert {lane_of(large, stage) for stage in Stage if stage is not Stage.CHUNK} == {Lane.STAGES}
