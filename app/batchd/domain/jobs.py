"""Jobs: what workers are woken up for, the lanes they wait in, and why one is tried again."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import msgspec

from batchd.domain.batches import Batch, Status
from batchd.domain.ids import BatchId

EXPRESS_BYTES = 64 * 1024
"""A batch with no more than this is small: it does not wait behind chunks that take minutes."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    job: str
    batch: BatchId
    status: Status
    tries: int
    seconds: float
    """Since the first failure."""
    reason: str
