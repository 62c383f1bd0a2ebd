"""The chunks of a batch: taken under a token and a lease, and settled once."""

from collections.abc import Sequence
from functools import reduce

import asyncpg

from batchd.db import line_counts
from batchd.db.connection import Connection
from batchd.domain.batches import LineCounts
from batchd.domain.chunks import Chunk
from batchd.domain.ids import BatchId


def _chunk(row: asyncpg.Record) -> Chunk:
    return Chunk(
        no=row["no"],
        start=row["start"],
        size=row["size"],
        first_line=row["first_line"],
        lines=row["lines"],
        token=row["token"],
        returned=row["returned"],
        part_key=row["part_key"],
        part_size=row["part_size"],
        tally=line_counts.decode(row),
    )


_COLUMNS = """
no, start, size, first_line, lines, token, returned, part_key, part_size, succeeded, failed,
cancelled, errors
"""


_QUALIFIED = ", ".join(f"chunks.{column.strip()}" for column in _COLUMNS.split(","))


async def insert(connection: Connection, batch: BatchId, chunks: Sequence[Chunk]) -> None:
    await connection.copy_records_to_table(
        "chunks",
        columns=["batch", "no", "start", "size", "first_line", "lines"],
        records=[(batch, c.no, c.start, c.size, c.first_line, c.lines) for c in chunks],
    )


# Whoever takes it last has it: the one before may be dead; if it is not, its writes are refused.
_CLAIM = f"""
WITH before AS (
    SELECT leased_until FROM chunks WHERE batch = $1 AND no = $2 AND part_key IS NULL FOR UPDATE
)
UPDATE chunks SET token = token + 1, leased_until = now() + make_interval(secs => $3),
    succeeded = 0, failed = 0, cancelled = 0, errors = DEFAULT
FROM before
WHERE batch = $1 AND no = $2 AND part_key IS NULL
AND EXISTS (SELECT FROM batches WHERE batch = $1 AND status = 'processing')
RETURNING {_QUALIFIED}, extract(epoch FROM
    now() - before.leased_until + make_interval(secs => $3))::float8 AS silent_s
"""


async def claim(
    connection: Connection, batch: BatchId, no: int, *, lease_s: float
) -> tuple[Chunk, float | None] | None:
    """Take the chunk; None if it is done or its batch is not being processed (any more).

    With it comes for how many seconds the worker that had it has not been heard of; None: nobody
    had it.
    """
    row = await connection.fetchrow(_CLAIM, batch, no, lease_s)
    return None if row is None else (_chunk(row), row["silent_s"])


# One statement tells progress, keeps the lease, and learns whether to go on.
_HEARTBEAT = """
UPDATE chunks SET leased_until = now() + make_interval(secs => $4),
    succeeded = $5, failed = $6, cancelled = $7, errors = $8
WHERE batch = $1 AND no = $2 AND token = $3 AND part_key IS NULL
AND EXISTS (SELECT FROM batches WHERE batch = $1 AND status = 'processing')
RETURNING 1
"""


async def heartbeat(
    connection: Connection, batch: BatchId, chunk: Chunk, *, lease_s: float, tally: LineCounts
) -> bool:
    """Return whether to go on: not so when another worker has it or the batch is cancelled."""
    going_on = await connection.fetchval(
        _HEARTBEAT,
        batch,
        chunk.no,
        chunk.token,
        lease_s,
        tally.succeeded,
        tally.failed,
        tally.cancelled,
        line_counts.encode_errors(tally.errors),
    )
    return going_on is not None


_COMPLETE = """
UPDATE chunks SET part_key = $4, part_size = $5, leased_until = NULL,
    succeeded = $6, failed = $7, cancelled = $8, errors = $9
-- Once more by the same worker: the answer to the first try was lost.
WHERE batch = $1 AND no = $2 AND token = $3 AND (part_key IS NULL OR part_key = $4)
RETURNING 1
"""


async def complete(
    connection: Connection,
    batch: BatchId,
    chunk: Chunk,
    *,
    part_key: str,
    part_size: int,
    tally: LineCounts,
) -> bool:
    """Record the chunk's results; False if they are not wanted: another worker has taken it."""
    settled = await connection.fetchval(
        _COMPLETE,
        batch,
        chunk.no,
        chunk.token,
        part_key,
        part_size,
        tally.succeeded,
        tally.failed,
        tally.cancelled,
        line_counts.encode_errors(tally.errors),
    )
    return settled is not None


_RELEASE = """
UPDATE chunks SET returned = returned + 1, leased_until = NULL
WHERE batch = $1 AND no = $2 AND token = $3 AND part_key IS NULL
"""


async def release(connection: Connection, batch: BatchId, chunk: Chunk) -> None:
    """Say that its worker is alive and has stopped: it does not count among those that died."""
    await connection.execute(_RELEASE, batch, chunk.no, chunk.token)


_ANY_PENDING = "SELECT EXISTS (SELECT FROM chunks WHERE batch = $1 AND part_key IS NULL)"


async def any_pending(connection: Connection, batch: BatchId) -> bool:
    found: bool = await connection.fetchval(_ANY_PENDING, batch)
    return found


_ANY_RUNNING = """
SELECT EXISTS (
    SELECT FROM chunks WHERE batch = $1 AND part_key IS NULL AND leased_until > now()
)
"""


async def any_running(connection: Connection, batch: BatchId) -> bool:
    """Return whether a worker is believed to be at one of the chunks."""
    found: bool = await connection.fetchval(_ANY_RUNNING, batch)
    return found


_FENCE = "UPDATE chunks SET token = token + 1 WHERE batch = $1 AND part_key IS NULL"


async def fence(connection: Connection, batch: BatchId) -> None:
    """Refuse from now on what workers write that were taken for dead."""
    await connection.execute(_FENCE, batch)


_ALL = f"SELECT {_COLUMNS} FROM chunks WHERE batch = $1 ORDER BY no"


async def find_all(connection: Connection, batch: BatchId) -> list[Chunk]:
    """Return the chunks in the order of the file: some hundred bytes for each thousand lines."""
    return [_chunk(row) for row in await connection.fetch(_ALL, batch)]


_COUNTS = """
SELECT coalesce(sum(succeeded), 0)::int AS succeeded, coalesce(sum(failed), 0)::int AS failed,
    coalesce(sum(cancelled), 0)::int AS cancelled, '{}' AS errors
FROM chunks WHERE batch = $1
"""

# Most chunks have none. In the order of the file: the first sample lines are the smallest.
_ERRORS = """
SELECT 0 AS succeeded, 0 AS failed, 0 AS cancelled, errors FROM chunks
WHERE batch = $1 AND errors <> '{}' ORDER BY no
"""


async def find_line_counts(connection: Connection, batch: BatchId) -> LineCounts:
    """Add up what became of the lines so far."""
    rows = [*await connection.fetch(_COUNTS, batch), *await connection.fetch(_ERRORS, batch)]
    return reduce(LineCounts.plus, map(line_counts.decode, rows), LineCounts())


_DELETE = "DELETE FROM chunks WHERE batch = $1"


async def delete(connection: Connection, batch: BatchId) -> None:
    await connection.execute(_DELETE, batch)
