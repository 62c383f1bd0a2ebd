"""The state of a batch by the contract, modelled independently of the code under test."""

from dataclasses import dataclass

from batchd.domain.batches import Status
from batchd.domain.jobs import Stage
from tests.support.history import DELETED

CHUNKS = 2
"""Number of chunks of a valid batch."""

CANCELLABLE = {"new", "copying", "copied", "validating", "processing"}
CANCEL_STATUSES = {"cancel", "cancelling", "cancelled"}
END_STATUSES = {"hash_mismatch", "validation_failed", "completed", "cancelled"}
NEXT_STAGE = {
    "new": Stage.COPY,
    "copying": Stage.COPY,
    "copied": Stage.VALIDATE,
    "validating": Stage.VALIDATE,
    "processing": Stage.CHUNK,
    "processed": Stage.RESULTS,
    "writing_results": Stage.RESULTS,
    "cancel": Stage.CANCEL,
    "cancelling": Stage.CANCEL,
    "deleting": Stage.DELETE,
}
CLAIMED_STATUS = {
    "new": Status.COPYING,
    "copied": Status.VALIDATING,
    "processed": Status.WRITING_RESULTS,
    "cancel": Status.CANCELLING,
}
"""The status that a worker's claim changes each status to."""


@dataclass(slots=True)
class Expectation:
    """The expected state of one batch."""

    kind: str
    status: str = "new"
    completed_chunks: int = 0
    total: int | None = None
    """Number of lines; None until they are validated."""
    cancelled: int = 0

    def run_stage(self, stage: Stage) -> None:
        if NEXT_STAGE.get(self.status) is not stage:
            return
        match stage:
            case Stage.COPY:
                self.status = "hash_mismatch" if self.kind == "changed" else "copied"
            case Stage.VALIDATE:
                outcomes = {"bad": "validation_failed", "empty": "processed"}
                self.status = outcomes.get(self.kind, "processing")
                self.total = {"good": CHUNKS, "empty": 0}.get(self.kind)
            case Stage.CHUNK:
                self.completed_chunks += 1
                if self.completed_chunks == CHUNKS:
                    self.status = "processed"
            case Stage.RESULTS:
                self.status = "completed"
            case Stage.CANCEL:
                self.status = "cancelled"
                self.cancelled = (self.total or 0) - self.completed_chunks
            case Stage.DELETE:
                self.status = DELETED

    @property
    def has_download(self) -> bool:
        return self.status in {"completed", "validation_failed"} or (
            self.status == "cancelled" and self.total is not None
        )

    @property
    def progress(self) -> dict[str, int | None]:
        done = self.completed_chunks + self.cancelled
        return {
            "total": self.total,
            "succeeded": 0,
            "failed": self.completed_chunks,
            "cancelled": self.cancelled,
            "remaining": None if self.total is None else self.total - done,
        }

    def cancel(self) -> tuple[int, object]:
        """Return the HTTP status, and the subcode or the new status of the batch."""
        if self.status == DELETED:
            return 404, 404653
        if self.status in CANCEL_STATUSES:
            return 400, 400358
        if self.status not in CANCELLABLE:
            return 400, 400592
        self.status = "cancel"
        return 200, self.status

    def delete(self) -> tuple[int, object]:
        if self.status == DELETED:
            return 404, 404653
        if self.status not in END_STATUSES:
            return 400, 400592
        self.status = "deleting"
        return 200, self.status

    def repeat_create(self) -> tuple[int, object]:
        return (400, 400358) if self.status == DELETED else (201, self.status)
