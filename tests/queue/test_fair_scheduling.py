"""How the waiting work of accounts is interleaved."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from batchd.db import accounts, batches, chunks
from batchd.domain.batches import Batch, Status
from batchd.domain.chunks import Chunk
from batchd.domain.ids import AccountId
from batchd.domain.jobs import EXPRESS_MAX_BYTES, Job, Lane, Stage, lane_of
from batchd.queue import fair_scheduling, jobs
from tests.support.rows import a_batch

LARGE = EXPRESS_MAX_BYTES + 1
LINES = 100
_USER = (
    "INSERT INTO users (user_id, account, role, name, created_ts) VALUES ($1, $2, '', '', now())"
)
_SERVED = """
DELETE FROM pgqueuer WHERE id IN (
    SELECT id FROM pgqueuer ORDER BY priority DESC, id LIMIT $1
) RETURNING dedupe_key
"""
_ORDER = "SELECT dedupe_key FROM pgqueuer ORDER BY priority DESC, id"


@pytest.fixture
async def connection(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


async def queue_batch(
    connection: "asyncpg.Connection[asyncpg.Record]",
    count: int,
    *,
    account: AccountId | None = None,
    priority: int = 0,
    size: int = LARGE,
) -> Batch:
    """Queue a batch that is being processed, in so many chunks."""
    made = a_batch(account, size=size, status=Status.PROCESSING, priority=priority)
    planned = [
        Chunk(number=no, start=no, size=1, first_line=no + 1, lines=LINES) for no in range(count)
    ]
    async with connection.transaction():
        await connection.execute(_USER, made.user, made.account)
        await batches.insert(connection, made, request_hash=b"")
        await chunks.insert(connection, made.batch, planned)
        wanted = [Job(Stage.CHUNK, made.batch, no) for no in range(count)]
        await jobs.enqueue(connection, made, wanted, costs=[LINES] * count)
    return made


async def order(connection: "asyncpg.Connection[asyncpg.Record]", **names: Batch) -> list[str]:
    """Return in which order the chunks would be served, as `<name><number>`."""
    rows = await connection.fetch(_ORDER)
    return [_named(row["dedupe_key"], names) for row in rows]


async def serve(connection: "asyncpg.Connection[asyncpg.Record]", count: int) -> None:
    assert len(await connection.fetch(_SERVED, count)) == count


def _named(key: str, names: dict[str, Batch]) -> str:
    _, batch, no = key.split(":")
    return next(name for name, made in names.items() if str(made.batch) == batch) + no


async def test_newcomer_is_served_at_once_and_then_in_turn(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    giant = await queue_batch(connection, 8)
    await serve(connection, 3)
    small = await queue_batch(connection, 2)
    assert await order(connection, g=giant, s=small) == ["g3", "s0", "g4", "s1", "g5", "g6", "g7"]


async def test_batches_of_one_account_do_not_add_up(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    first = await queue_batch(connection, 2)
    second = await queue_batch(connection, 2, account=first.account)
    other = await queue_batch(connection, 3)
    assert await order(connection, f=first, s=second, o=other) == [
        *("f0", "o0", "f1", "o1", "s0", "o2", "s1"),
    ]


async def test_who_was_idle_has_saved_nothing(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    one = await queue_batch(connection, 1)
    await serve(connection, 1)
    two = await queue_batch(connection, 6)
    await serve(connection, 3)
    again = await queue_batch(connection, 2, account=one.account)
    assert await order(connection, t=two, a=again) == ["t3", "a0", "t4", "a1", "t5"]


async def test_weight_gives_a_larger_part(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    heavy = AccountId(uuid4())
    await accounts.set_weight(connection, heavy, 3)
    light = await queue_batch(connection, 3)
    paying = await queue_batch(connection, 6, account=heavy)
    served = await order(connection, l=light, p=paying)
    assert served[:4].count("l0") == 1
    assert [sum(name[0] == "p" for name in served[start : start + 4]) for start in (0, 4)] == [3, 3]
    await accounts.set_weight(connection, heavy, 2)
    assert dict(await accounts.find_weights(connection)) == {light.account: 1, heavy: 2}


async def test_urgent_batch_goes_before_the_others_of_its_account_alone(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    usual = await queue_batch(connection, 3)
    other = await queue_batch(connection, 3)
    urgent = await queue_batch(connection, 2, account=usual.account, priority=5)
    assert await order(connection, u=usual, o=other, x=urgent) == [
        *("o0", "x0", "o1", "x1", "u0", "o2", "u1", "u2"),
    ]
    later = await queue_batch(connection, 1, account=usual.account, priority=1)
    assert await order(connection, u=usual, o=other, x=urgent, l=later) == [
        *("o0", "x0", "o1", "x1", "o2", "l0", "u0", "u1", "u2"),
    ]


async def test_orders_survive_that_time_is_set_back(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    one = await queue_batch(connection, 5)
    two = await queue_batch(connection, 3)
    await serve(connection, 4)
    before = await order(connection, o=one, t=two)
    async with connection.transaction():
        assert await fair_scheduling.rebase(connection, threshold=10 * LINES) is False
        assert await fair_scheduling.rebase(connection, threshold=4 * LINES) is True
    assert await order(connection, o=one, t=two) == before
    newcomer = await queue_batch(connection, 2)
    after = await order(connection, o=one, t=two, n=newcomer)
    assert after.index("n0") <= 2
    assert [name for name in after if name[0] != "n"] == before


async def test_work_of_small_batches_has_a_lane_of_its_own() -> None:
    small, large = a_batch(size=EXPRESS_MAX_BYTES), a_batch(size=LARGE)
    assert {lane_of(small, stage) for stage in Stage} == {Lane.EXPRESS}
    assert lane_of(large, Stage.CHUNK) is Lane.CHUNKS
    assert {lane_of(large, stage) for stage in Stage if stage is not Stage.CHUNK} == {Lane.STAGES}
