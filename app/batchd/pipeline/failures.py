"""What the exceptions of a stage mean: which are waited out, and which are counted."""

import errno
from enum import Enum, auto

from batchd.domain.errors import ProcessingTimeout

_WORKER_ERRORS = frozenset(
    {
        # The disk is full, broken or read-only.
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS),
        *(errno.ENODEV, errno.ENXIO, errno.ESTALE),
        # There is no folder for temporary files, or it can't be written to.
        *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM),
        # The process, or the machine, has too many open files or too little memory.
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    }
)


class FailureKind(Enum):
    OUTAGE = auto()
    """Something that batchd calls does not respond: the stage is retried until it does."""
    LONE_OUTAGE = auto()
    """It does not respond to this job, but did to the worker's probe: an object may be damaged.

    Also a failure of the disk that the probe does not meet: the job may need too much of it.
    """
    TIME_LIMIT = auto()
    """It would respond, but not within batchd's own limit: it is busy, or the request too large."""
    WORKER = auto()
    """The worker's machine is at fault, for example its disk: another worker may succeed."""
    DEFECT = auto()
    """Anything else, a refusal of the storage included: it will probably happen again."""


def kind_of(error: BaseException) -> FailureKind:
    """Return the kind. Errors of the database and of the storage never get here as OSError."""
    match error:
        case ProcessingTimeout(is_outage=is_outage):
            return FailureKind.OUTAGE if is_outage else FailureKind.TIME_LIMIT
        case OSError(errno=number) if number in _WORKER_ERRORS:
            return FailureKind.WORKER
        case _:
            return FailureKind.DEFECT


def reason_of(error: BaseException) -> str:
    """Return the error as it is logged and recorded: for operators, never for callers."""
    return f"{type(error).__name__}: {error}"
