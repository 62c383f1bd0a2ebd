"""The queue of work to be done on batches: PgQueuer, behind this module and `queue`.

A job only wakes a worker up. What there is to do, and who may do it, stands in batches and chunks;
so a job that runs twice, or once too often, does no harm.
"""

from collections.abc import Iterable
from enum import StrEnum
from itertools import islice
from typing import Self

import msgspec
from pgqueuer.adapters.persistence.queries import Queries

from batchd.db.connection import Connection
from batchd.domain.batches import Status
from batchd.domain.ids import BatchId

_SLICE = 5_000
"""Jobs one statement queues: a large batch has more than fit into the time it may take."""


class Stage(StrEnum):
    """What a job has to do with its batch."""

    COPY = "copy"
    VALIDATE = "validate"
    CHUNK = "chunk"
    RESULTS = "results"
    CANCEL = "cancel"
    DELETE = "delete"


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


async def enqueue(connection: Connection, jobs: Iterable[Job]) -> None:
    """Queue jobs, in the transaction at hand: they exist when it commits, or never did."""
    queries = Queries.from_asyncpg_connection(connection)  # type: ignore[arg-type]
    waiting = iter(jobs)
    while wanted := list(islice(waiting, _SLICE)):
        await queries.enqueue(
            [job.stage.value for job in wanted],
            [job.encode() for job in wanted],
            [0] * len(wanted),
            dedupe_key=[job.key for job in wanted],
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


# Three rows a job, and the engine never removes them.
_PRUNE_LOG = "DELETE FROM pgqueuer_log WHERE created < now() - interval '1 day'"
_PRUNE_STATISTICS = "DELETE FROM pgqueuer_statistics WHERE created < now() - interval '7 days'"


async def prune(connection: Connection) -> None:
    """Remove what the engine keeps of jobs long done."""
    await connection.execute(_PRUNE_LOG)
    await connection.execute(_PRUNE_STATISTICS)
