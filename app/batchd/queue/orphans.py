"""Orphaned work: batches and chunks that have to advance, but have no queued or running job."""

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
    WHERE j.dedupe_key = s.stage || ':' || b.batch AND j.status IN ('queued', 'picked')
)
"""

_ORPHANED_CHUNKS = """
SELECT c.batch, c.no AS number FROM batches b JOIN chunks c USING (batch)
WHERE b.status NOT IN ('hash_mismatch', 'validation_failed', 'completed', 'cancelled')
AND b.status = 'processing' AND c.part_key IS NULL
AND NOT EXISTS (
    SELECT FROM pgqueuer j
    WHERE j.dedupe_key = 'chunk:' || c.batch || ':' || c.no AND j.status IN ('queued', 'picked')
)
"""


async def find_orphaned_jobs(connection: Connection) -> list[Job]:
    """Return the jobs that should be queued or running, but are not."""
    stages = await connection.fetch(
        _ORPHANED_STAGES,
        [status.value for status in STAGE_OF_STATUS],
        [stage.value for stage in STAGE_OF_STATUS.values()],
    )
    chunks = await connection.fetch(_ORPHANED_CHUNKS)
    return [
        *(Job(Stage(row["stage"]), row["batch"]) for row in stages),
        *(Job(Stage.CHUNK, row["batch"], row["number"]) for row in chunks),
    ]


_UNMARKED_PROCESSED = """
SELECT batch FROM batches b WHERE status = 'processing'
AND NOT EXISTS (SELECT FROM chunks c WHERE c.batch = b.batch AND c.part_key IS NULL)
"""


async def find_unmarked_processed(connection: Connection) -> list[BatchId]:
    """Return batches in processing whose chunks are all completed.

    Their last worker died before it could change their status.
    """
    return [row["batch"] for row in await connection.fetch(_UNMARKED_PROCESSED)]
