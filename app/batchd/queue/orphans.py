"""Orphaned jobs: those of batches and chunks that should advance, but are not in the queue."""

from uuid import UUID

from batchd.db.connection import Connection
from batchd.domain.ids import BatchId
from batchd.domain.jobs import STAGE_OF_STATUS, Job, Stage

# The lists of end statuses repeat the condition of the partial index batches_live literally:
# otherwise PostgreSQL would scan the whole table for the few batches that are not at an end.
_ORPHANED_STAGES = """
SELECT b.batch, s.stage FROM batches b
JOIN unnest($1::text[], $2::text[]) AS s (status, stage) ON b.status = s.status COLLATE "C"
WHERE b.status NOT IN ('hash_mismatch', 'validation_failed', 'completed', 'cancelled')
AND NOT EXISTS (
    SELECT FROM pgqueuer j
    WHERE j.batch = b.batch AND j.chunk IS NULL AND j.stage = s.stage
    AND j.status IN ('queued', 'picked')
)
"""

_SLICE_CHUNKS = 25_000
"""Chunks that one round compares with the jobs, so that its duration has a bound."""
_BEFORE_ALL = (UUID(int=0), -1)
_AFTER_ALL = (UUID(int=2**128 - 1), 2**31 - 1)

_FIND_SLICE_START = "SELECT batch, no FROM chunk_sweep"
_FIND_SLICE_END = """
SELECT batch, no FROM chunks WHERE part_key IS NULL AND (batch, no) > ($1, $2)
ORDER BY batch, no LIMIT 1 OFFSET $3
"""
# EXCEPT, not an anti-join: both sides are read from their indexes within the bounds of the slice,
# whatever size the planner estimates for the other one.
_ORPHANED_CHUNKS = """
SELECT pending.batch, pending.no AS number FROM (
    SELECT batch, no FROM chunks
    WHERE part_key IS NULL AND (batch, no) > ($1, $2) AND (batch, no) <= ($3, $4)
    EXCEPT
    SELECT batch, chunk FROM pgqueuer
    WHERE status IN ('queued', 'picked')
    AND (batch, chunk) > ($1, $2) AND (batch, chunk) <= ($3, $4)
) AS pending JOIN batches b USING (batch)
WHERE b.status NOT IN ('hash_mismatch', 'validation_failed', 'completed', 'cancelled')
AND b.status = 'processing'
"""
_SAVE_SLICE_END = """
INSERT INTO chunk_sweep (batch, no) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE SET batch = excluded.batch, no = excluded.no
RETURNING 1
"""
_RESTART_SWEEP = "DELETE FROM chunk_sweep RETURNING 1"


async def find_orphaned_jobs(connection: Connection) -> list[Job]:
    """Return jobs that should be queued or running, but are not.

    Each call checks the next 25,000 pending chunks, and starts over after the last: call it in a
    transaction, as the only supervisor.
    """
    stages = await connection.fetch(
        _ORPHANED_STAGES,
        [status.value for status in STAGE_OF_STATUS],
        [stage.value for stage in STAGE_OF_STATUS.values()],
    )
    return [
        *(Job(Stage(row["stage"]), row["batch"]) for row in stages),
        *await _find_orphaned_chunks(connection),
    ]


async def _find_orphaned_chunks(connection: Connection) -> list[Job]:
    start = await connection.fetchrow(_FIND_SLICE_START) or _BEFORE_ALL
    end = await connection.fetchrow(_FIND_SLICE_END, *start, _SLICE_CHUNKS - 1)
    rows = await connection.fetch(_ORPHANED_CHUNKS, *start, *(end or _AFTER_ALL))
    if end is None:
        await connection.fetchval(_RESTART_SWEEP)
    else:
        await connection.fetchval(_SAVE_SLICE_END, *end)
    return [Job(Stage.CHUNK, row["batch"], row["number"]) for row in rows]


_UNMARKED_PROCESSED = """
SELECT batch FROM batches b WHERE status = 'processing'
AND NOT EXISTS (SELECT FROM chunks c WHERE c.batch = b.batch AND c.part_key IS NULL)
"""


async def find_unmarked_processed(connection: Connection) -> list[BatchId]:
    """Return batches in processing whose chunks are all completed.

    Their last worker died before it could change their status.
    """
    return [row["batch"] for row in await connection.fetch(_UNMARKED_PROCESSED)]
