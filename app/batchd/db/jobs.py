"""The queue of work to be done on batches: PgQueuer, behind this module and `queue`.

A job only wakes a worker up. What there is to do, and who may do it, stands in batches and chunks;
so a job that runs twice, or once too often, does no harm.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import islice
from typing import Self

import msgspec
from pgqueuer.adapters.persistence.queries import Queries

from batchd.db import shares
from batchd.db.connection import Connection
from batchd.domain.batches import Batch, Status
from batchd.domain.ids import BatchId

_SLICE = 5_000
"""Jobs one statement queues: a large batch has more than fit into the time it may take."""

EXPRESS_BYTES = 64 * 1024
"""A batch with no more than this is small: it does not wait behind chunks that take minutes."""

_LAST_PRIORITY = -2_000_000_000


class Lane(StrEnum):
    """A queue with workers' places of its own; the engine calls it an entrypoint."""

    CHUNKS = "chunks"
    STAGES = "stages"
    """Everything else: the copy of a large file must not hold a place in which lines could run."""
    EXPRESS = "express"
    """Chunks and all else of small batches."""


class Stage(StrEnum):
    """What a job has to do with its batch."""

    COPY = "copy"
    VALIDATE = "validate"
    CHUNK = "chunk"
    RESULTS = "results"
    CANCEL = "cancel"
    DELETE = "delete"
    TIDY = "tidy"
    """Once more after the end: the worker may have died before it removed what nobody needs."""


STAGE_OF_STATUS = {
    Status.NEW: Stage.COPY,
    Status.COPYING: Stage.COPY,
    Status.COPIED: Stage.VALIDATE,
    Status.VALIDATING: Stage.VALIDATE,
    Status.PROCESSED: Stage.RESULTS,
    Status.WRITING_RESULTS: Stage.RESULTS,
    Status.CANCEL: Stage.CANCEL,
    Status.CANCELLING: Stage.CANCEL,
    Status.DELETING: Stage.DELETE,
}
"""The stage that takes a batch on. One that is being processed has a job for each chunk."""


class Job(msgspec.Struct, frozen=True):
    stage: Stage
    batch: BatchId
    chunk: int | None = None

    @property
    def key(self) -> str:
        """Names the work: it is never queued twice at a time."""
        chunk = "" if self.chunk is None else f":{self.chunk}"
        return f"{self.stage}:{self.batch}{chunk}"

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return msgspec.json.decode(payload, type=cls)


def lane_of(batch: Batch, stage: Stage) -> Lane:
    if batch.input_size <= EXPRESS_BYTES:
        return Lane.EXPRESS
    return Lane.CHUNKS if stage is Stage.CHUNK else Lane.STAGES


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
    tags = await shares.take_tags(connection, lane, batch.account, costs or [1] * len(jobs))
    await _insert(connection, lane, jobs, tags)
    if jobs[0].stage is Stage.CHUNK:
        await shares.reorder(connection, lane, batch.account, batch.batch)


async def enqueue_overdue(connection: Connection, jobs: Sequence[Job]) -> None:
    """Queue jobs whose turn has come before: they were lost, and go before all others."""
    if jobs:
        now = await shares.now(connection, Lane.EXPRESS)
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
    now = await shares.now(connection, Lane.EXPRESS)
    rows = await connection.fetch(_RESCUE, Lane.CHUNKS, Lane.EXPRESS, silent_s, now)
    return [row["dedupe_key"] for row in rows]


# Three rows a job, and the engine never removes them.
_PRUNE_LOG = "DELETE FROM pgqueuer_log WHERE created < now() - interval '1 day'"
_PRUNE_STATISTICS = "DELETE FROM pgqueuer_statistics WHERE created < now() - interval '7 days'"


async def prune(connection: Connection) -> None:
    """Remove what the engine keeps of jobs long done."""
    await connection.execute(_PRUNE_LOG)
    await connection.execute(_PRUNE_STATISTICS)
