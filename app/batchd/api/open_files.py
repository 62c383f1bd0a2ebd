"""The limit of open files: every connection is one, and many systems allow only 1,024."""

import logging
import resource
from contextlib import suppress

logger = logging.getLogger(__name__)


def allow_open_files(count: int) -> None:
    """Raise the limit of this process as far as the system permits; warn if that is not enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    limit = count if hard == resource.RLIM_INFINITY else min(count, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    if soft < count:
        logger.warning(
            "only %d files may be open: raise the limit (ulimit -n) to %d, "
            "or lower BATCHD_MAX_CONNECTIONS",
            soft,
            count,
        )
