"""What the contract says of a batch, said once more and not in the words of the code under test."""

from dataclasses import dataclass

from batchd.domain.batches import Status
from batchd.domain.jobs import Stage
from tests.support.history import GONE

CHUNKS = 2
"""Of the batches that are good."""

CAN_BE_CANCELLED = {"new", "copying", "copied", "validating", "processing"}
IS_CANCELLED = {"cancel", "cancelling", "cancelled"}
ENDS = {"hash_mismatch", "validation_failed", "completed", "cancelled"}
WORK = {
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
BEGINNING = {
    "new": Status.COPYING,
    "copied": Status.VALIDATING,
    "processed": Status.WRITING_RESULTS,
    "cancel": Status.CANCELLING,
}
"""What a worker makes of them first."""


@dataclass(slots=True)
class Expectation:
    """What the contract says that a batch is."""

    kind: str
    status: str = "new"
    chunks: int = 0
    """So many are done."""
    total: int | None = None
    """Lines to run; None until they are validated."""
    cancelled: int = 0

    def work(self, stage: Stage) -> None:
        if WORK.get(self.status) is not stage:
            return
        match stage:
            case Stage.COPY:
                self.status = "hash_mismatch" if self.kind == "changed" else "copied"
            case Stage.VALIDATE:
                ways = {"bad": "validation_failed", "empty": "processed"}
                self.status = ways.get(self.kind, "processing")
                self.total = {"good": CHUNKS, "empty": 0}.get(self.kind)
            case Stage.CHUNK:
                self.chunks += 1
                if self.chunks == CHUNKS:
                    self.status = "processed"
            case Stage.RESULTS:
                self.status = "completed"
            case Stage.CANCEL:
                self.status = "cancelled"
                self.cancelled = (self.total or 0) - self.chunks
            case Stage.DELETE:
                self.status = GONE

    @property
    def has_download(self) -> bool:
        return self.status in {"completed", "validation_failed"} or (
            self.status == "cancelled" and self.total is not None
        )

    @property
    def progress(self) -> dict[str, int | None]:
        done = self.chunks + self.cancelled
        return {
            "total": self.total,
            "succeeded": 0,
            "failed": self.chunks,
            "cancelled": self.cancelled,
            "remaining": None if self.total is None else self.total - done,
        }

    def cancel(self) -> tuple[int, object]:
        """Return the status and subcode of the answer, or what the batch is then."""
        if self.status == GONE:
            return 404, 404653
        if self.status in IS_CANCELLED:
            return 400, 400358
        if self.status not in CAN_BE_CANCELLED:
            return 400, 400592
        self.status = "cancel"
        return 200, self.status

    def delete(self) -> tuple[int, object]:
        if self.status == GONE:
            return 404, 404653
        if self.status not in ENDS:
            return 400, 400592
        self.status = "deleting"
        return 200, self.status

    def repeat(self) -> tuple[int, object]:
        return (400, 400358) if self.status == GONE else (201, self.status)
