"""The queue of work to be done on batches: PgQueuer, behind this module and `queue`.

A job only wakes a worker up. What there is to do, and who may do it, stands in batches and chunks;
so a job that runs twice, or once too often, does no harm.
"""

from collections.abc import Sequence
from itertools import islice

from pgqueuer.adapters.persistence.queries import Queries

from batchd.db.connection import Connection
from batchd.domain.batches import Batch
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Lane, Stage, lane_of
from batchd.queue import fair_scheduling

_SLICE = 5_000
"""Jobs one statement queues: a large batch has more than fit into the time it may take."""

_LAST_PRIORITY = -2_000_000_000


async def enqueue(
    connection: Connection, batch: Batch, jobs: Sequence[Job], *, costs: Sequence[int] = ()
) -> None:
    """Queue jobs of one lane for their batch, in its account's turn, in the transaction at hand.

    They exist when it commits, or never did. `costs` says by how many lines each job, 1 if left
    out, puts off the account's next turn.
    """
    if not jobs:
        return
    lane = lane_of(batch, jobs[0].stage)
    tags = await fair_scheduling.take_tags(
        connection, lane, batch.account, costs or [1] * len(jobs)
    )
    await _insert(connection, lane, jobs, tags)
    if jobs[0].stage is Stage.CHUNK:
        await fair_scheduling.reorder(connection, lane, batch.account, batch.batch)


async def enqueue_overdue(connection: Connection, jobs: Sequence[Job]) -> None:
    """Queue jobs whose turn has come before: they were lost, and go before all others."""
    if jobs:
        now = await fair_scheduling.now(connection, Lane.EXPRESS)
        await _insert(connection, Lane.EXPRESS, jobs, [now] * len(jobs))


async def _insert(
    connection: Connection, lane: Lane, jobs: Sequence[Job], tags: Sequence[int]
) -> None:
    queries = Queries.from_asyncpg_connection(connection)  # type: ignore[arg-type]
    waiting = zip(jobs, tags, strict=True)
    while wanted := list(islice(waiting, _SLICE)):
        await queries.enqueue(
            [lane.value] * len(wanted),
            [job.encode() for job, _ in wanted],
            [max(-tag, _LAST_PRIORITY) for _, tag in wanted],
            dedupe_key=[job.key for job, _ in wanted],
            on_conflict="skip",
        )


_DROP_CHUNKS = """
DELETE FROM pgqueuer j USING chunks c
WHERE c.batch = $1 AND c.part_key IS NULL
AND j.dedupe_key = 'chunk:' || c.batch || ':' || c.no AND j.status = 'queued'
"""


async def drop_chunks(connection: Connection, batch: BatchId) -> None:
    """Take the batch's waiting chunks out of the queue."""
    await connection.execute(_DROP_CHUNKS, batch)


# The engine gives a dead worker's jobs to whoever has a free place in their lane, which can take
# as long as a chunk of a slow upstream. In the other lane places are free soon, and they are next.
_RESCUE = """
UPDATE pgqueuer SET status = 'queued', entrypoint = $2, queue_manager_id = NULL, updated = now(),
    priority = -$4::int
WHERE status = 'picked' AND entrypoint = $1 AND heartbeat < now() - make_interval(secs => $3)
RETURNING dedupe_key
"""


async def rescue(connection: Connection, *, silent_s: float) -> list[str]:
    """Queue the chunks anew whose workers have been silent for so long; return the jobs' keys."""
    now = await fair_scheduling.now(connection, Lane.EXPRESS)
    rows = await connection.fetch(_RESCUE, Lane.CHUNKS, Lane.EXPRESS, silent_s, now)
    return [row["dedupe_key"] for row in rows]


# Three rows a job, and the engine never removes them.
_PRUNE_LOG = "DELETE FROM pgqueuer_log WHERE created < now() - interval '1 day'"
_PRUNE_STATISTICS = "DELETE FROM pgqueuer_statistics WHERE created < now() - interval '7 days'"


async def prune(connection: Connection) -> None:
    """Remove what the engine keeps of jobs long done."""
    await connection.execute(_PRUNE_LOG)
    await connection.execute(_PRUNE_STATISTICS)
