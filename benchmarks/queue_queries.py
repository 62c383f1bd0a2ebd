"""The queue's own queries on a full queue: reordering for an urgent batch, and the supervisor's.

Starts an embedded PostgreSQL, fills it with generated rows, and measures each function in
transactions that are rolled back. Prints Markdown.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
from support.table import machine

from batchd.db.connection import Connection
from batchd.db.migrations import migrate
from batchd.devstack.postgres import run_postgres
from batchd.queue import fair_scheduling, orphans

Rows: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ACCOUNT = UUID(int=1)
URGENT_CHUNKS = 100

_USER = "INSERT INTO users VALUES ($1, $1, 'admin', '', now())"
_BATCH = """
INSERT INTO batches (batch, account, user_id, handler, request_hash, operation, status, created_ts,
    updated_ts, priority, input_size)
VALUES ($1, $2, $2, $1, '', 'no_op', 'processing', now(), now(), $3, 1000000000)
"""
_CHUNKS = """
INSERT INTO chunks (batch, no, start, size, first_line, lines)
SELECT $1, no, no, 1, no + 1, 1000 FROM generate_series(0, $2::int - 1) AS no
"""
_JOBS = """
INSERT INTO pgqueuer (priority, status, entrypoint, dedupe_key, payload)
SELECT -($3::int + no) * 1000, 'queued', 'chunks', 'chunk:' || $1::uuid || ':' || no, '{}'
FROM generate_series(0, $2::int - 1) AS no
"""
_LOSE_JOBS = "DELETE FROM pgqueuer WHERE chunk % 1000 = 7"


async def measure(
    connection: Rows, run: Callable[[Connection], Awaitable[object]], *, rounds: int
) -> str:
    """Return the median and the maximum in milliseconds, as two cells of a table."""
    durations = []
    for _ in range(rounds):
        transaction = connection.transaction()
        await transaction.start()
        started_at = time.perf_counter()
        await run(connection)
        durations.append((time.perf_counter() - started_at) * 1_000)
        await transaction.rollback()
    return f"{median(durations):.1f} | {max(durations):.1f}"


async def queue_batch(connection: Rows, chunks: int, *, first: int, priority: int = 0) -> UUID:
    batch = uuid4()
    await connection.execute(_BATCH, batch, ACCOUNT, priority)
    await connection.execute(_CHUNKS, batch, chunks)
    await connection.execute(_JOBS, batch, chunks, first)
    return batch


@asynccontextmanager
async def full_queue(waiting: int, *, batches: int) -> AsyncIterator[Rows]:
    """Run a database with so many waiting chunks of one account, in so many batches."""
    with TemporaryDirectory(prefix="batchd-bench-") as folder:
        async with run_postgres(Path(folder) / "postgres", durable=False) as postgres:
            await migrate(postgres.url)
            connection = await asyncpg.connect(postgres.url)
            await connection.execute(_USER, ACCOUNT)
            each = waiting // batches
            for number in range(batches):
                await queue_batch(connection, each, first=number * each)
            await connection.execute("VACUUM ANALYZE")
            yield connection
            await connection.close()


async def report_reordering(waiting: int, *, batches: int, rounds: int) -> None:
    async with full_queue(waiting, batches=batches) as connection:
        urgent = await queue_batch(connection, URGENT_CHUNKS, first=waiting, priority=5)

        async def reorder(connection: Connection) -> None:
            await fair_scheduling.reorder(connection, "chunks", urgent)

        cells = await measure(connection, reorder, rounds=rounds)
        print(f"| reordering, {waiting:,} waiting chunks in {batches} batches | {cells} |")


async def report_orphans(waiting: int, *, batches: int, rounds: int) -> None:
    async with full_queue(waiting, batches=batches) as connection:
        for name, query in (
            ("lost chunks, none lost", orphans.find_orphaned_jobs),
            ("unnoticed ends", orphans.find_unmarked_processed),
        ):
            cells = await measure(connection, query, rounds=rounds)
            print(f"| {name}, {waiting:,} waiting chunks in {batches} batches | {cells} |")
        await connection.execute(_LOSE_JOBS)
        cells = await measure(connection, orphans.find_orphaned_jobs, rounds=rounds)
        print(f"| lost chunks, one in 1,000 lost, {waiting:,} in {batches} batches | {cells} |")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reordered", type=int, default=100_000)
    parser.add_argument("--swept", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(f"{machine()}\n")
    print("| query | median ms | max ms |\n| --- | ---: | ---: |")
    for batches in (1, 20):
        await report_reordering(options.reordered, batches=batches, rounds=options.rounds)
    for batches in (4, 2_000):
        await report_orphans(options.swept, batches=batches, rounds=options.rounds)


if __name__ == "__main__":
    asyncio.run(main())
