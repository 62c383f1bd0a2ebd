"""A batch, its fourteen statuses, and the legal transitions between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from batchd.domain.ids import AccountId, BatchId, Handler, UserId


class Status(StrEnum):
    NEW = "new"
    COPYING = "copying"
    COPIED = "copied"
    HASH_MISMATCH = "hash_mismatch"
    VALIDATING = "validating"
    VALIDATION_FAILED = "validation_failed"
    PROCESSING = "processing"
    PROCESSED = "processed"
    WRITING_RESULTS = "writing_results"
    COMPLETED = "completed"
    CANCEL = "cancel"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    DELETING = "deleting"


TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.NEW: frozenset({Status.COPYING, Status.CANCEL}),
    Status.COPYING: frozenset({Status.COPIED, Status.HASH_MISMATCH, Status.CANCEL}),
    Status.COPIED: frozenset({Status.VALIDATING, Status.CANCEL}),
    Status.VALIDATING: frozenset({Status.PROCESSING, Status.VALIDATION_FAILED, Status.CANCEL}),
    Status.PROCESSING: frozenset({Status.PROCESSED, Status.CANCEL}),
    Status.PROCESSED: frozenset({Status.WRITING_RESULTS}),
    # Cancelled only if the results can't be stored: completed promises them.
    Status.WRITING_RESULTS: frozenset({Status.COMPLETED, Status.CANCELLED}),
    Status.CANCEL: frozenset({Status.CANCELLING}),
    Status.CANCELLING: frozenset({Status.CANCELLED}),
    Status.HASH_MISMATCH: frozenset({Status.DELETING}),
    Status.VALIDATION_FAILED: frozenset({Status.DELETING}),
    Status.COMPLETED: frozenset({Status.DELETING}),
    Status.CANCELLED: frozenset({Status.DELETING}),
    Status.DELETING: frozenset(),
}
"""The statuses that each status may change to: the only definition."""

END_STATUSES = frozenset(
    {Status.HASH_MISMATCH, Status.VALIDATION_FAILED, Status.COMPLETED, Status.CANCELLED}
)
CANCEL_STATUSES = frozenset({Status.CANCEL, Status.CANCELLING, Status.CANCELLED})
OPEN_STATUSES = frozenset(Status) - END_STATUSES - {Status.DELETING}


def sources_of(target: Status) -> frozenset[Status]:
    """Return the statuses from which a batch may become `target`."""
    return frozenset(status for status, targets in TRANSITIONS.items() if target in targets)


MAX_SAMPLE_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorCount:
    """The failed lines with one status code, or the invalid lines with one issue code."""

    count: int
    lines: tuple[int, ...]
    """The first line numbers, at most MAX_SAMPLE_LINES."""

    def plus(self, later: "ErrorCount") -> "ErrorCount":
        """Add those of lines further on in the file."""
        return ErrorCount(
            count=self.count + later.count, lines=(self.lines + later.lines)[:MAX_SAMPLE_LINES]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCounts:
    """What became of the lines so far."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    errors: Mapping[int, ErrorCount] = field(default_factory=dict)
    """By status code."""

    @property
    def done(self) -> int:
        return self.succeeded + self.failed + self.cancelled

    def plus(self, later: "LineCounts") -> "LineCounts":
        """Add the counts of lines further on in the file."""
        errors = dict(self.errors)
        for status, count in later.errors.items():
            errors[status] = errors[status].plus(count) if status in errors else count
        return LineCounts(
            succeeded=self.succeeded + later.succeeded,
            failed=self.failed + later.failed,
            cancelled=self.cancelled + later.cancelled,
            errors=errors,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFailure:
    """Why a batch ended before its lines ran."""

    upload_hash: str | None = None
    """SHA-256 of the upload after a hash_mismatch."""
    report_counts: Mapping[str, ErrorCount] = field(default_factory=dict)
    """After validation_failed: the invalid lines by code of the validation report."""


class ResultsFile(msgspec.Struct, frozen=True, kw_only=True):
    size: int
    """Bytes."""
    lines: int
    sha256: str


DOWNLOAD_STATUSES = frozenset({Status.COMPLETED, Status.CANCELLED, Status.VALIDATION_FAILED})


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A struct, not a dataclass: every read creates one, and a large struct is created faster."""

    batch: BatchId
    account: AccountId
    user: UserId
    """The creator: lines run with the role that this user has at that time."""
    handler: Handler
    operation: str
    status: Status
    created_ts: datetime
    updated_ts: datetime
    hash: str | None
    """The SHA-256 given to create_batch, 64 lower-case hexadecimal digits."""
    batch_dict: bytes | None
    """The creator's own attributes as JSON text."""
    priority: int
    """Among the batches of its account, higher ones run first."""
    attempt: int
    """How often a stage of the batch was claimed; not used for fencing."""
    fencing_token: UUID | None = None
    """Random value of the latest claim of a stage; writes with another one are rejected."""
    input_key: str | None
    """The copy that is validated and run; None before it exists and when it is no longer needed."""
    input_problem: str | None
    """Why the copy can't be run as a whole: an issue code of the validation report."""
    input_size: int
    """Bytes of the upload; after validation, of the decompressed lines."""
    lines: int | None
    """Number of lines that will run; None until they are validated."""
    download_key: str | None
    """The key of the results or of the validation report."""
    results: ResultsFile | None
