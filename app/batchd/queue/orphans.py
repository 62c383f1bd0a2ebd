"""Work that is to be done, but for which no job is waiting or running."""

from batchd.db.connection import Connection
from batchd.domain.ids import BatchId
from batchd.domain.jobs import STAGE_OF_STATUS, Job, Stage

# The lists of end statuses are the condition of the index batches_live, word for word: without it
# PostgreSQL would read the whole table for the few rows that are not at an end.
_LOST_STAGES = """
SELECT b.batch, s.stage FROM batches b
JOIN unnest($1::text[], $2::text[]) AS s (status, stage) ON b.status = s.status COLLATE "C"
WHERE b.status NOT IN ('hash_mismatch', 'validation_failed', 'completed', 'cancelled')
AND NOT EXISTS (
    SELECT FROM pgqueuer j
    WHERE j.dedupe_key = s.stage || ':' || b.batch AND j.status IN ('queued', 'picked')
)
"""

_LOST_CHUNKS = """
SELECT c.batch, c.no FROM batches b JOIN chunks c USING (batch)
WHERE b.status NOT IN ('hash_mismatch', 'validation_failed', 'completed', 'cancelled')
AND b.status = 'processing' AND c.part_key IS NULL
AND NOT EXISTS (
    SELECT FROM pgqueuer j
    WHERE j.dedupe_key = 'chunk:' || c.batch || ':' || c.no AND j.status IN ('queued', 'picked')
)
"""


async def find_lost(connection: Connection) -> list[Job]:
    """Return the work that is to be done but for which no job is waiting or running."""
    stages = await connection.fetch(
        _LOST_STAGES,
        [status.value for status in STAGE_OF_STATUS],
        [stage.value for stage in STAGE_OF_STATUS.values()],
    )
    chunks = await connection.fetch(_LOST_CHUNKS)
    return [
        *(Job(Stage(row["stage"]), row["batch"]) for row in stages),
        *(Job(Stage.CHUNK, row["batch"], row["no"]) for row in chunks),
    ]


_PROCESSED_UNNOTICED = """
SELECT batch FROM batches b WHERE status = 'processing'
AND NOT EXISTS (SELECT FROM chunks c WHERE c.batch = b.batch AND c.part_key IS NULL)
"""


async def find_processed(connection: Connection) -> list[BatchId]:
    """Return batches whose chunks are all done, but whose last worker died before it said so."""
    return [row["batch"] for row in await connection.fetch(_PROCESSED_UNNOTICED)]
