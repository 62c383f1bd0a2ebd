"""Orphaned chunks are found, a bounded number of chunks per round."""

import asyncpg
import pytest

from batchd.queue import orphans
from tests.support.queued_batches import queue_batch


async def lose_jobs(connection: "asyncpg.Connection[asyncpg.Record]", *numbers: int) -> None:
    await connection.execute("DELETE FROM pgqueuer WHERE chunk = ANY($1)", numbers)


async def sweep(connection: "asyncpg.Connection[asyncpg.Record]") -> list[int]:
    """Return the numbers of the chunks that one round finds."""
    async with connection.transaction():
        return sorted(job.chunk or 0 for job in await orphans.find_orphaned_jobs(connection))


async def test_lost_chunks_of_all_batches_are_found_in_one_round(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await queue_batch(connection, 4)
    await queue_batch(connection, 3)
    assert await sweep(connection) == []
    await lose_jobs(connection, 0, 2)
    assert await sweep(connection) == [0, 0, 2, 2]


async def test_round_looks_at_the_next_chunks_and_begins_anew_after_the_last(
    connection: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "_SLICE_CHUNKS", 2)
    await queue_batch(connection, 5)
    await lose_jobs(connection, 1, 2, 4)
    rounds = [await sweep(connection) for _ in range(4)]
    assert rounds == [[1], [2], [4], [1]]


async def test_round_that_is_rolled_back_is_repeated(
    connection: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "_SLICE_CHUNKS", 2)
    await queue_batch(connection, 4)
    await lose_jobs(connection, 1, 3)
    transaction = connection.transaction()
    await transaction.start()
    await orphans.find_orphaned_jobs(connection)
    await transaction.rollback()
    assert await sweep(connection) == [1]


async def test_chunks_that_are_done_or_not_to_be_run_are_not_lost(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    batch = await queue_batch(connection, 3)
    await lose_jobs(connection, 0, 1, 2)
    await connection.execute("UPDATE chunks SET part_key = 'part' WHERE no = 1")
    assert await sweep(connection) == [0, 2]
    await connection.execute(
        "UPDATE batches SET status = 'cancelled' WHERE batch = $1", batch.batch
    )
    assert await sweep(connection) == []
