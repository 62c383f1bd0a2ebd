"""Failures of jobs that are still queued or running: why a batch does not advance."""

from collections.abc import Sequence

from batchd.db.connection import Connection
from batchd.domain.batches import Status
from batchd.domain.jobs import Job, JobFailure

_MAX_REASON_LENGTH = 500

_RECORD = """
INSERT INTO troubles AS t (job, batch, tries, defects, reason)
SELECT $1, batch, 1, $3, $4 FROM batches WHERE batch = $2
ON CONFLICT (job) DO UPDATE
SET tries = t.tries + 1, defects = t.defects + excluded.defects, reason = excluded.reason
RETURNING defects
"""


async def record_failure(connection: Connection, job: Job, *, reason: str, is_defect: bool) -> int:
    """Record a failure; return how many of the job's failures were defects."""
    defects: int | None = await connection.fetchval(
        _RECORD, job.key, job.batch, int(is_defect), reason[:_MAX_REASON_LENGTH]
    )
    return defects or 0


# A completed or dead-lettered job is no longer in the queue.
_PRUNE = """
DELETE FROM troubles t WHERE NOT EXISTS (
    SELECT FROM pgqueuer j WHERE j.dedupe_key = t.job AND j.status IN ('queued', 'picked')
)
"""
_FIND = """
SELECT t.job AS job_key, t.batch, b.status, t.tries AS failures, t.reason,
    extract(epoch FROM now() - t.since)::float8 AS duration_s
FROM troubles t JOIN batches b USING (batch) ORDER BY t.since LIMIT $1
"""


async def prune_and_find(connection: Connection, *, limit: int) -> Sequence[JobFailure]:
    """Delete the failures of jobs that have left the queue; return the others, oldest first."""
    await connection.execute(_PRUNE)
    return [
        JobFailure(
            job_key=row["job_key"],
            batch=row["batch"],
            status=Status(row["status"]),
            failures=row["failures"],
            duration_s=row["duration_s"],
            reason=row["reason"],
        )
        for row in await connection.fetch(_FIND, limit)
    ]
