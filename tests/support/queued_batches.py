"""Batches whose chunks are queued, without any files."""

import asyncpg

from batchd.db import batches, chunks
from batchd.domain.batches import Batch, Status
from batchd.domain.chunks import Chunk
from batchd.domain.ids import AccountId
from batchd.domain.jobs import EXPRESS_MAX_BYTES, Job, Stage
from batchd.queue import jobs
from tests.support.rows import new_batch

LARGE = EXPRESS_MAX_BYTES + 1
LINES = 100
_INSERT_USER = (
    "INSERT INTO users (user_id, account, role, name, created_ts) VALUES ($1, $2, '', '', now())"
)


async def queue_batch(
    connection: "asyncpg.Connection[asyncpg.Record]",
    count: int,
    *,
    account: AccountId | None = None,
    priority: int = 0,
    size: int = LARGE,
) -> Batch:
    """Queue the chunks of a batch that is being processed."""
    batch = new_batch(account, size=size, status=Status.PROCESSING, priority=priority)
    planned_chunks = [
        Chunk(number=number, start=number, size=1, first_line=number + 1, lines=LINES)
        for number in range(count)
    ]
    async with connection.transaction():
        await connection.execute(_INSERT_USER, batch.user, batch.account)
        await batches.insert(connection, batch, request_hash=b"")
        await chunks.insert(connection, batch.batch, planned_chunks)
        chunk_jobs = [Job(Stage.CHUNK, batch.batch, number) for number in range(count)]
        await jobs.enqueue(connection, batch, chunk_jobs, costs=[LINES] * count)
    return batch
