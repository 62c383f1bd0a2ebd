"""Failures of jobs, and deaths of their workers: why a batch does not advance, or how it ended."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from batchd.db.connection import Connection
from batchd.domain.batches import Status
from batchd.domain.jobs import Job, JobFailure

_MAX_REASON_LENGTH = 500
_WORKER_DIED = "the worker died"

# If the attempt before has not ended, its worker has died.
_RECORD_START = """
INSERT INTO troubles AS t (job, batch, tries, defects, reason, running)
VALUES ($1, $2, 0, 0, '', true)
ON CONFLICT (job) DO UPDATE
SET running = true, deaths = t.deaths + t.running::int,
    reason = CASE WHEN t.running THEN $3 ELSE t.reason END
RETURNING deaths
"""


async def record_start(connection: Connection, job: Job) -> int:
    """Record that an attempt starts; return how many workers have died of the job before."""
    deaths: int | None = await connection.fetchval(_RECORD_START, job.key, job.batch, _WORKER_DIED)
    return deaths or 0


_RECORD_END = "UPDATE troubles SET running = false WHERE job = $1"


async def record_end(connection: Connection, job: Job) -> None:
    """Record that an attempt has ended without a failure, but will be repeated.

    There is no need to record a success: the rows of jobs that have left the queue are pruned.
    """
    await connection.execute(_RECORD_END, job.key)


FailureCounter: TypeAlias = Literal["defects", "time_limits", "lone_outages"]
"""The failures that are counted because their number is bounded; others are not."""

_RECORD_FAILURE = """
INSERT INTO troubles AS t (job, batch, tries, defects, time_limits, lone_outages, reason)
VALUES ($1, $2, 1, coalesce($3 = 'defects', false)::int, coalesce($3 = 'time_limits', false)::int,
    coalesce($3 = 'lone_outages', false)::int, $4)
ON CONFLICT (job) DO UPDATE
SET tries = t.tries + 1, defects = t.defects + excluded.defects, reason = excluded.reason,
    time_limits = t.time_limits + excluded.time_limits,
    lone_outages = t.lone_outages + excluded.lone_outages, running = false
RETURNING CASE $3 WHEN 'defects' THEN defects WHEN 'time_limits' THEN time_limits
    WHEN 'lone_outages' THEN lone_outages END
"""


async def record_failure(
    connection: Connection, job: Job, *, reason: str, counter: FailureCounter | None
) -> int:
    """Record the failure of an attempt; return the new value of the counter, 0 without one."""
    count: int | None = await connection.fetchval(
        _RECORD_FAILURE, job.key, job.batch, counter, reason[:_MAX_REASON_LENGTH]
    )
    return count or 0


_RECORD_DEAD_LETTER = """
UPDATE troubles SET running = false, dead_lettered_ts = now(), reason = $2 WHERE job = $1
"""


async def record_dead_letter(connection: Connection, job: Job, *, reason: str) -> None:
    """Record that the job was dead-lettered, and why."""
    await connection.execute(_RECORD_DEAD_LETTER, job.key, reason[:_MAX_REASON_LENGTH])


_DELETE = "DELETE FROM troubles WHERE job = $1"


async def delete(connection: Connection, job: Job) -> None:
    """Delete the record of a job that will be queued again, and then counts anew."""
    await connection.execute(_DELETE, job.key)


# A completed job is no longer in the queue. The number of rows is limited, because a statement that
# runs into its time limit deletes nothing, in this round and in every other one.
_PRUNE = """
DELETE FROM troubles WHERE ctid = ANY(ARRAY(
    SELECT t.ctid FROM troubles t WHERE CASE
        WHEN dead_lettered_ts IS NOT NULL THEN dead_lettered_ts < now() - interval '7 days'
        ELSE NOT EXISTS (
            SELECT FROM pgqueuer j
            WHERE j.dedupe_key = t.job AND j.status IN ('queued', 'picked')
        )
    END LIMIT 20000
))
"""
_FIND = """
SELECT t.job AS job_key, t.batch, b.status, t.tries + t.deaths AS failures, t.reason,
    extract(epoch FROM now() - t.since)::float8 AS duration_s
FROM troubles t JOIN batches b USING (batch)
WHERE t.tries + t.deaths > 0 AND t.dead_lettered_ts IS NULL
ORDER BY t.since LIMIT $1
"""


async def prune_and_find(connection: Connection, *, limit: int) -> Sequence[JobFailure]:
    """Delete what is no longer needed; return the failures of jobs in the queue, oldest first."""
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
