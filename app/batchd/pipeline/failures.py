"""What the exceptions of a stage mean: which are waited out, and which are counted."""

from enum import Enum, auto

from batchd.domain.errors import ProcessingTimeout


class FailureKind(Enum):
    OUTAGE = auto()
    """Something that batchd calls does not answer: the stage is tried again until it does."""
    WORKER = auto()
    """The machine of the worker is at fault, its disk for example: another worker may succeed."""
    DEFECT = auto()
    """Anything else, a refusal of the storage included: the same will probably happen again."""


def kind_of(error: BaseException) -> FailureKind:
    """Return the kind. Errors of the database and of the storage never get here as OSError."""
    match error:
        case ProcessingTimeout(is_outage=True):
            return FailureKind.OUTAGE
        case TimeoutError():
            # It is an OSError, but no I/O has failed.
            return FailureKind.DEFECT
        case OSError():
            return FailureKind.WORKER
        case _:
            return FailureKind.DEFECT
