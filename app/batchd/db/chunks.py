"""Chunks: claimed under a lease with a fencing token, and completed once."""

from collections.abc import Sequence
from functools import reduce

import asyncpg

from batchd.db import bulk, line_counts
from batchd.db.connection import Connection
from batchd.domain.batches import LineCounts
from batchd.domain.chunks import Chunk
from batchd.domain.ids import BatchId


def _decode(row: asyncpg.Record) -> Chunk:
    return Chunk(
        number=row["number"],
        start=row["start"],
        size=row["size"],
        first_line=row["first_line"],
        lines=row["lines"],
        fencing_token=row["fencing_token"],
        claims=row["claims"],
        releases=row["releases"],
        checkpoint_key=row["checkpoint_key"],
        part_key=row["part_key"],
        part_size=row["part_size"],
        counts=line_counts.decode(row),
    )


_COLUMNS = """
chunks.no AS number, chunks.start, chunks.size, chunks.first_line, chunks.lines,
chunks.fencing_token, chunks.token AS claims, chunks.returned AS releases, chunks.checkpoint_key,
chunks.part_key, chunks.part_size, chunks.succeeded, chunks.failed, chunks.cancelled, chunks.errors
"""


async def insert(connection: Connection, batch: BatchId, chunks: Sequence[Chunk]) -> None:
    await bulk.copy_in_slices(
        connection,
        "chunks",
        columns=["batch", "no", "start", "size", "first_line", "lines"],
        records=[
            (batch, chunk.number, chunk.start, chunk.size, chunk.first_line, chunk.lines)
            for chunk in chunks
        ],
    )


# The latest claim wins: the previous worker may be dead; if it is not, its writes are refused.
# The fencing token is random: a counter of a database that is restored or promoted repeats itself.
_CLAIM = f"""
WITH previous AS (
    SELECT leased_until FROM chunks WHERE batch = $1 AND no = $2 AND part_key IS NULL FOR UPDATE
)
UPDATE chunks SET token = token + 1, fencing_token = gen_random_uuid(),
    leased_until = now() + make_interval(secs => $3),
    -- The lines of a checkpoint are finished, the others are run again.
    succeeded = CASE WHEN checkpoint_key IS NULL THEN 0 ELSE succeeded END,
    failed = CASE WHEN checkpoint_key IS NULL THEN 0 ELSE failed END,
    cancelled = 0,
    errors = CASE WHEN checkpoint_key IS NULL THEN '{{}}' ELSE errors END,
    part_size = CASE WHEN checkpoint_key IS NULL THEN 0 ELSE part_size END
FROM previous
WHERE batch = $1 AND no = $2 AND part_key IS NULL
AND EXISTS (SELECT FROM batches WHERE batch = $1 AND status = 'processing')
RETURNING {_COLUMNS}, extract(epoch FROM
    now() - previous.leased_until + make_interval(secs => $3))::float8 AS silent_s
"""


async def claim(
    connection: Connection, batch: BatchId, number: int, *, lease_s: float
) -> tuple[Chunk, float | None] | None:
    """Claim the chunk; None if it is completed or its batch is not being processed (any more).

    Also return the seconds since the last heartbeat of the worker that had claimed it; None if
    there was none.
    """
    row = await connection.fetchrow(_CLAIM, batch, number, lease_s)
    return None if row is None else (_decode(row), row["silent_s"])


# One statement records the progress, renews the lease, and checks whether to continue.
_HEARTBEAT = """
UPDATE chunks SET leased_until = now() + make_interval(secs => $4),
    succeeded = $5, failed = $6, cancelled = $7, errors = $8, part_size = $9
WHERE batch = $1 AND no = $2 AND fencing_token = $3 AND part_key IS NULL
AND EXISTS (SELECT FROM batches WHERE batch = $1 AND status = 'processing')
RETURNING 1
"""


async def heartbeat(
    connection: Connection,
    batch: BatchId,
    chunk: Chunk,
    *,
    lease_s: float,
    counts: LineCounts,
    size: int,
) -> bool:
    """Return whether to continue: False if the claim is lost or the batch is cancelled."""
    renewed = await connection.fetchval(
        _HEARTBEAT,
        batch,
        chunk.number,
        chunk.fencing_token,
        lease_s,
        counts.succeeded,
        counts.failed,
        counts.cancelled,
        line_counts.encode_errors(counts.errors),
        size,
    )
    return renewed is not None


_COMPLETE = """
UPDATE chunks SET part_key = $4, part_size = $5, leased_until = NULL,
    succeeded = $6, failed = $7, cancelled = $8, errors = $9
-- A retry by the same worker, whose first response was lost, succeeds as well.
WHERE batch = $1 AND no = $2 AND fencing_token = $3 AND (part_key IS NULL OR part_key = $4)
RETURNING 1
"""


async def complete(
    connection: Connection,
    batch: BatchId,
    chunk: Chunk,
    *,
    key: str,
    size: int,
    counts: LineCounts,
) -> bool:
    """Record the part with the chunk's results; False if another worker has claimed the chunk."""
    return await _record(connection, _COMPLETE, batch, chunk, key=key, size=size, counts=counts)


_SAVE_CHECKPOINT = """
UPDATE chunks SET checkpoint_key = $4, part_size = $5, leased_until = NULL,
    -- A retry by the same worker, whose first response was lost, is no second release.
    returned = returned + (checkpoint_key IS DISTINCT FROM $4)::int,
    succeeded = $6, failed = $7, cancelled = $8, errors = $9
WHERE batch = $1 AND no = $2 AND fencing_token = $3 AND part_key IS NULL
RETURNING 1
"""


async def save_checkpoint(
    connection: Connection,
    batch: BatchId,
    chunk: Chunk,
    *,
    key: str,
    size: int,
    counts: LineCounts,
) -> bool:
    """Record the finished lines and release the chunk; False if another worker has claimed it."""
    return await _record(
        connection, _SAVE_CHECKPOINT, batch, chunk, key=key, size=size, counts=counts
    )


async def _record(
    connection: Connection,
    statement: str,
    batch: BatchId,
    chunk: Chunk,
    *,
    key: str,
    size: int,
    counts: LineCounts,
) -> bool:
    """Execute a statement that records stored results; return whether the claim was still valid."""
    recorded = await connection.fetchval(
        statement,
        batch,
        chunk.number,
        chunk.fencing_token,
        key,
        size,
        counts.succeeded,
        counts.failed,
        counts.cancelled,
        line_counts.encode_errors(counts.errors),
    )
    return recorded is not None


_RELEASE = """
UPDATE chunks SET returned = returned + 1, leased_until = NULL
-- Not if a checkpoint has released it already.
WHERE batch = $1 AND no = $2 AND fencing_token = $3 AND part_key IS NULL
    AND leased_until IS NOT NULL
"""


async def release(connection: Connection, batch: BatchId, chunk: Chunk) -> None:
    """End the claim of a worker that has stopped; it is not counted as a death."""
    await connection.execute(_RELEASE, batch, chunk.number, chunk.fencing_token)


_ANY_PENDING = "SELECT EXISTS (SELECT FROM chunks WHERE batch = $1 AND part_key IS NULL)"


async def any_pending(connection: Connection, batch: BatchId) -> bool:
    pending: bool = await connection.fetchval(_ANY_PENDING, batch)
    return pending


_ANY_RUNNING = """
SELECT EXISTS (
    SELECT FROM chunks WHERE batch = $1 AND part_key IS NULL AND leased_until > now()
)
"""


async def any_running(connection: Connection, batch: BatchId) -> bool:
    """Return whether a worker holds an unexpired lease on one of the chunks."""
    running: bool = await connection.fetchval(_ANY_RUNNING, batch)
    return running


# The counter as well: it fences the workers of the previous version.
_FENCE = """
UPDATE chunks SET token = token + 1, fencing_token = gen_random_uuid()
WHERE batch = $1 AND no = ANY(ARRAY(
    SELECT no FROM chunks WHERE batch = $1 AND part_key IS NULL AND no >= $2 ORDER BY no LIMIT $3
)) AND part_key IS NULL
RETURNING no
"""


async def fence(connection: Connection, batch: BatchId) -> None:
    """Fence off the workers of all chunks: their writes are refused from now on."""
    await bulk.update_in_slices(connection, _FENCE, batch)


_FIND_ALL = f"SELECT {_COLUMNS} FROM chunks WHERE batch = $1 ORDER BY no"


async def find_all(connection: Connection, batch: BatchId) -> list[Chunk]:
    """Return the chunks in file order: some hundred bytes per thousand lines."""
    return [_decode(row) for row in await connection.fetch(_FIND_ALL, batch)]


_SUM_COUNTS = """
SELECT coalesce(sum(succeeded), 0)::int AS succeeded, coalesce(sum(failed), 0)::int AS failed,
    coalesce(sum(cancelled), 0)::int AS cancelled, '{}' AS errors
FROM chunks WHERE batch = $1
"""

# Most chunks have no errors. In file order, so that the first sample lines are kept.
_FIND_ERRORS = """
SELECT 0 AS succeeded, 0 AS failed, 0 AS cancelled, errors FROM chunks
WHERE batch = $1 AND errors <> '{}' ORDER BY no
"""


async def find_line_counts(connection: Connection, batch: BatchId) -> LineCounts:
    """Return the sum of the chunks' line counts so far."""
    rows = [
        *await connection.fetch(_SUM_COUNTS, batch),
        *await connection.fetch(_FIND_ERRORS, batch),
    ]
    return reduce(LineCounts.plus, map(line_counts.decode, rows), LineCounts())


_SUM_PART_SIZES = """
SELECT coalesce(sum(part_size), 0)::bigint FROM chunks WHERE batch = $1 AND no <> ALL($2::int[])
"""


async def sum_part_sizes(connection: Connection, batch: BatchId, *, excluded: Sequence[int]) -> int:
    """Return the bytes of results so far, without those of the excluded chunks."""
    size: int = await connection.fetchval(_SUM_PART_SIZES, batch, excluded)
    return size


_DELETE = """
DELETE FROM chunks WHERE batch = $1 AND no = ANY(ARRAY(
    SELECT no FROM chunks WHERE batch = $1 LIMIT $2
))
"""


async def delete(connection: Connection, batch: BatchId) -> None:
    await bulk.delete_in_slices(connection, _DELETE, batch)
