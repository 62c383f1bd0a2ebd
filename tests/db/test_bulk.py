"""Bulk statements run in slices, each with a time limit of its own."""

from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.db import bulk, chunks
from batchd.db.connection import Connection
from batchd.domain.batches import Status
from batchd.domain.chunks import Chunk
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.queue import jobs
from tests.support.callers import ApiCaller
from tests.support.rows import T0, insert_batches, new_batch

CHUNKS = 25


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "SLICE_ROWS", 10)


@pytest.fixture
async def batch(caller: ApiCaller, components: Components) -> BatchId:
    """Return a batch of more chunks than two slices, of which some are completed."""
    (row,) = await insert_batches(components, caller, [(T0, Status.CANCELLING)])
    batch = BatchId(UUID(row.batch))
    planned = [
        Chunk(number=number, start=number, size=1, first_line=number + 1, lines=1)
        for number in range(CHUNKS)
    ]
    async with components.database.connection() as connection:
        await chunks.insert(connection, batch, planned)
        await connection.execute("UPDATE chunks SET part_key = 'part' WHERE no % 5 = 0")
    return batch


async def tokens(connection: Connection, batch: BatchId) -> list[int]:
    rows = await connection.fetch(
        "SELECT token FROM chunks WHERE batch = $1 AND part_key IS NULL ORDER BY no", batch
    )
    return [row["token"] for row in rows]


async def test_every_unfinished_chunk_is_fenced_once(
    components: Components, batch: BatchId
) -> None:
    async with components.database.connection() as connection:
        before = await tokens(connection, batch)
        await chunks.fence(connection, batch)
        after = await tokens(connection, batch)
    assert len(after) == CHUNKS - CHUNKS // 5
    assert all(old != new for old, new in zip(before, after, strict=True))


async def test_every_chunk_is_deleted_within_a_transaction(
    components: Components, batch: BatchId
) -> None:
    async with components.database.transaction() as connection:
        await chunks.delete(connection, batch)
        assert await tokens(connection, batch) == []
        assert await connection.fetchval("SHOW statement_timeout") == "31s"
    async with components.database.connection() as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "6s"


async def test_every_queued_chunk_is_removed_from_the_queue(
    components: Components, batch: BatchId
) -> None:
    owner = new_batch(status=Status.CANCELLING)
    async with components.database.transaction() as connection:
        await jobs.enqueue(
            connection, owner, [Job(Stage.CHUNK, batch, number) for number in range(CHUNKS)]
        )
    async with components.database.connection() as connection:
        await jobs.delete_queued_chunks(connection, batch)
        remaining = await connection.fetchval("SELECT count(*) FROM pgqueuer")
    # The chunks that are completed have no jobs in fact.
    assert remaining in {0, CHUNKS // 5}


async def test_slow_slice_exceeds_its_time_limit(
    components: Components, batch: BatchId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "TIMEOUT_S", 0.1)
    slow = "DELETE FROM chunks WHERE batch = $1 AND pg_sleep(60) IS NOT NULL AND no < $2"
    with pytest.raises(ProcessingTimeout) as limit:
        async with components.database.connection() as connection:
            await bulk.delete_in_slices(connection, slow, batch)
    assert not limit.value.is_outage
