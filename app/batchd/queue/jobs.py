"""The queue of jobs: what is queued, in which order, and what is removed from it.

A job only wakes up a worker. The batches and chunks tables say what is to be done and who may do
it, so jobs are idempotent: one that runs twice changes nothing.
"""

from collections.abc import Sequence
from itertools import islice

from pgqueuer.adapters.persistence.queries import Queries

from batchd.db import bulk
from batchd.db.connection import Connection
from batchd.domain.batches import Batch
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Lane, Stage, lane_of
from batchd.queue import fair_scheduling

_MAX_JOBS_PER_STATEMENT = 2_000
"""A large batch has more jobs than one statement can insert within its timeout."""

_MIN_PRIORITY = -2_000_000_000


async def enqueue(
    connection: Connection, batch: Batch, jobs: Sequence[Job], *, costs: Sequence[int] = ()
) -> None:
    """Queue jobs of one lane for their batch, in the order of fair scheduling.

    They are queued when the caller's transaction commits. `costs` are the jobs' costs in lines, by
    which they delay the account's next turn; each is 1 by default.
    """
    if not jobs:
        return
    lane = lane_of(batch, jobs[0].stage)
    tags = await fair_scheduling.reserve_tags(
        connection, lane, batch.account, costs or [1] * len(jobs)
    )
    await _insert(connection, lane, jobs, tags)
    if jobs[0].stage is Stage.CHUNK:
        await fair_scheduling.reorder(connection, lane, batch.batch)


async def enqueue_orphaned(connection: Connection, jobs: Sequence[Job]) -> None:
    """Queue orphaned jobs ahead of all others: they have had their turn."""
    if jobs:
        tag = await fair_scheduling.virtual_time(connection, Lane.EXPRESS)
        await _insert(connection, Lane.EXPRESS, jobs, [tag] * len(jobs))


async def enqueue_cleanups(connection: Connection, jobs: Sequence[Job]) -> None:
    """Queue the deletion of files that are due, beside the stages of large batches."""
    if jobs:
        tag = await fair_scheduling.virtual_time(connection, Lane.STAGES)
        await _insert(connection, Lane.STAGES, jobs, [tag] * len(jobs))


async def _insert(
    connection: Connection, lane: Lane, jobs: Sequence[Job], tags: Sequence[int]
) -> None:
    queries = Queries.from_asyncpg_connection(connection)  # type: ignore[arg-type]
    tagged_jobs = zip(jobs, tags, strict=True)
    while records := list(islice(tagged_jobs, _MAX_JOBS_PER_STATEMENT)):
        await queries.enqueue(
            [lane.value] * len(records),
            [job.encode() for job, _ in records],
            [max(-tag, _MIN_PRIORITY) for _, tag in records],
            dedupe_key=[job.key for job, _ in records],
            on_conflict="skip",
        )


# The job is running: it returns to the queue, in this lane, when its handler asks for a retry.
_CHANGE_LANE = "UPDATE pgqueuer SET entrypoint = $2, priority = $3 WHERE dedupe_key = $1"


async def change_lane(connection: Connection, batch: Batch, job: Job) -> None:
    """Move a running job to the lane that its batch now belongs to, for when it is retried."""
    lane = lane_of(batch, job.stage)
    (tag,) = await fair_scheduling.reserve_tags(connection, lane, batch.account, [1])
    await connection.execute(_CHANGE_LANE, job.key, lane, max(-tag, _MIN_PRIORITY))


_DELETE_QUEUED_CHUNKS = """
DELETE FROM pgqueuer WHERE id = ANY(ARRAY(
    SELECT id FROM pgqueuer
    WHERE batch = $1 AND chunk IS NOT NULL AND status = 'queued' LIMIT $2
)) AND status = 'queued'
"""


async def delete_queued_chunks(connection: Connection, batch: BatchId) -> None:
    """Remove the batch's queued chunk jobs, but not the running ones."""
    await bulk.delete_in_slices(connection, _DELETE_QUEUED_CHUNKS, batch)


# PgQueuer hands a dead worker's jobs to the next free slot of their lane, which can take as long as
# a chunk of a slow upstream. The express lane has free slots soon, and the jobs come first there.
_REQUEUE_STALE = """
UPDATE pgqueuer SET status = 'queued', entrypoint = $2, queue_manager_id = NULL, updated = now(),
    priority = -$4::int
WHERE status = 'picked' AND entrypoint = $1 AND heartbeat < now() - make_interval(secs => $3)
RETURNING dedupe_key
"""


async def requeue_stale(connection: Connection, *, stale_after_s: float) -> list[str]:
    """Requeue the chunk jobs whose worker has sent no heartbeat in that time; return their keys."""
    tag = await fair_scheduling.virtual_time(connection, Lane.EXPRESS)
    rows = await connection.fetch(_REQUEUE_STALE, Lane.CHUNKS, Lane.EXPRESS, stale_after_s, tag)
    return [row["dedupe_key"] for row in rows]


# PgQueuer writes three rows per job and never deletes them. The number of rows is limited, because
# a statement that runs into its time limit deletes nothing, in this round and in every other one.
_PRUNE_LOG = """
DELETE FROM pgqueuer_log WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pgqueuer_log WHERE created < now() - interval '1 day' LIMIT 20000
))
"""
_PRUNE_STATISTICS = """
DELETE FROM pgqueuer_statistics WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM pgqueuer_statistics WHERE created < now() - interval '7 days' LIMIT 20000
))
"""


async def prune(connection: Connection) -> None:
    """Delete PgQueuer's old log and statistics rows, a bounded number at a time."""
    await connection.execute(_PRUNE_LOG)
    await connection.execute(_PRUNE_STATISTICS)
