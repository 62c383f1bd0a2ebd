"""Jobs, the stages they run, the lanes they wait in, and the record of a job's failures."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import msgspec

from batchd.domain.batches import Batch, Status
from batchd.domain.ids import BatchId

EXPRESS_MAX_BYTES = 64 * 1024
"""Maximum input size of a small batch, which does not wait behind chunks that take minutes."""


class Lane(StrEnum):
    """A queue with worker slots of its own; PgQueuer calls it an entrypoint."""

    CHUNKS = "chunks"
    STAGES = "stages"
    """All other stages: copying a large file must not occupy a slot in which lines could run."""
    EXPRESS = "express"
    """Every stage of small batches."""


class Stage(StrEnum):
    """The work that a job does on its batch."""

    COPY = "copy"
    VALIDATE = "validate"
    CHUNK = "chunk"
    RESULTS = "results"
    CANCEL = "cancel"
    DELETE = "delete"
    CLEANUP = "tidy"
    """Deletes the files of an ended or deleted batch when they are due.

    The value stays as it is because queued jobs contain it.
    """


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
"""The stage that advances a batch. A batch that is being processed has one job per chunk."""


class Job(msgspec.Struct, frozen=True):
    stage: Stage
    batch: BatchId
    chunk: int | None = None

    @property
    def key(self) -> str:
        """The deduplication key: a job with the same key is never queued twice at a time."""
        chunk = "" if self.chunk is None else f":{self.chunk}"
        return f"{self.stage}:{self.batch}{chunk}"

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        return msgspec.json.decode(payload, type=cls)


def lane_of(batch: Batch, stage: Stage) -> Lane:
    if batch.input_size <= EXPRESS_MAX_BYTES:
        return Lane.EXPRESS
    return Lane.CHUNKS if stage is Stage.CHUNK else Lane.STAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """The failures of a job that is still queued or running."""

    job_key: str
    batch: BatchId
    status: Status
    failures: int
    duration_s: float
    """Time since the first failure."""
    reason: str
    """The last error."""
