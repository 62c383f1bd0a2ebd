"""File locks on folders that only one process may use."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from batchd.devstack.errors import StackFailed

POLL_INTERVAL_S = 0.02
LOCK_TIMEOUT_S = 0.5
"""A process that was just killed holds its locks until the system has released them."""


@asynccontextmanager
async def hold_lock(path: Path, *, timeout_s: float = LOCK_TIMEOUT_S) -> AsyncIterator[int]:
    """Hold the lock of this file; raise StackFailed if it is not available within the timeout.

    Yields the locked file descriptor: a child that inherits it keeps the lock if this process dies.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not _try_lock(lock):
            if asyncio.get_running_loop().time() >= deadline:
                raise StackFailed(
                    f"{path.parent} is in use by another batchd dev. Stop that one, or choose "
                    "another folder with --data-dir."
                )
            await asyncio.sleep(POLL_INTERVAL_S)
        yield lock
    finally:
        os.close(lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
