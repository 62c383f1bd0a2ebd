"""Why a batch does not go on: the failures of jobs that are still to be done."""

from collections.abc import Sequence

from batchd.db.connection import Connection
from batchd.domain.batches import Status
from batchd.domain.jobs import Job, JobFailure

_REASON_LENGTH = 500

_NOTE = """
INSERT INTO troubles AS t (job, batch, tries, defects, reason)
SELECT $1, batch, 1, $3, $4 FROM batches WHERE batch = $2
ON CONFLICT (job) DO UPDATE
SET tries = t.tries + 1, defects = t.defects + excluded.defects, reason = excluded.reason
RETURNING defects
"""


async def note(connection: Connection, job: Job, *, reason: str, is_defect: bool) -> int:
    """Record a failure; return how many of the job's failures were defects."""
    defects: int | None = await connection.fetchval(
        _NOTE, job.key, job.batch, int(is_defect), reason[:_REASON_LENGTH]
    )
    return defects or 0


# A job that was done, or given up, is no longer in the queue.
_FORGET = """
DELETE FROM troubles t WHERE NOT EXISTS (
    SELECT FROM pgqueuer j WHERE j.dedupe_key = t.job AND j.status IN ('queued', 'picked')
)
"""
_LIST = """
SELECT t.job, t.batch, b.status, t.tries, t.reason,
    extract(epoch FROM now() - t.since)::float8 AS seconds
FROM troubles t JOIN batches b USING (batch) ORDER BY t.since LIMIT $1
"""


async def find(connection: Connection, *, limit: int) -> Sequence[JobFailure]:
    """Forget what is over; return what is not, the oldest first."""
    await connection.execute(_FORGET)
    return [
        JobFailure(
            job=row["job"],
            batch=row["batch"],
            status=Status(row["status"]),
            tries=row["tries"],
            seconds=row["seconds"],
            reason=row["reason"],
        )
        for row in await connection.fetch(_LIST, limit)
    ]
