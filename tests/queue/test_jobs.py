"""The columns of a job state its purpose, and PgQueuer accepts them."""

from uuid import UUID

import asyncpg
import pytest
from pgqueuer.adapters.persistence.queries import Queries

from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.queue import jobs
from tests.support.rows import new_batch

BATCH = BatchId(UUID(int=7))


@pytest.mark.parametrize(
    "job",
    [
        *(Job(stage, BATCH) for stage in Stage if stage is not Stage.CHUNK),
        Job(Stage.CHUNK, BATCH, 0),
        Job(Stage.CHUNK, BATCH, 1_000_000),
    ],
    ids=lambda job: job.key,
)
async def test_columns_of_a_job_are_the_parts_of_its_key(
    job: Job, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await jobs.enqueue(connection, new_batch(), [job])
    row = await connection.fetchrow("SELECT stage, batch, chunk FROM pgqueuer")
    assert row is not None
    assert tuple(row) == (job.stage, job.batch, job.chunk)


async def test_engine_has_nothing_to_change_about_the_schema(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    plan = await Queries.from_asyncpg_connection(connection).plan_upgrade()
    assert plan.statements == ()


async def test_only_the_queued_chunks_of_the_batch_are_deleted(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    batch, other = new_batch(), new_batch()
    chunks = [Job(Stage.CHUNK, batch.batch, number) for number in range(3)]
    await jobs.enqueue(connection, batch, chunks)
    await jobs.enqueue(connection, batch, [Job(Stage.CANCEL, batch.batch)])
    await jobs.enqueue(connection, other, [Job(Stage.CHUNK, other.batch, 0)])
    await connection.execute("UPDATE pgqueuer SET status = 'picked' WHERE chunk = 1")

    await jobs.delete_queued_chunks(connection, batch.batch)

    keys = {row["dedupe_key"] for row in await connection.fetch("SELECT dedupe_key FROM pgqueuer")}
    assert keys == {
        chunks[1].key,
        Job(Stage.CANCEL, batch.batch).key,
        Job(Stage.CHUNK, other.batch, 0).key,
    }
