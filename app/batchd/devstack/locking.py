"""The locks on folders that only one process may work in."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from batchd.devstack.errors import StackFailed

POLL_S = 0.02
PATIENCE_S = 0.5
"""A holder that was killed a moment ago is still one until the system has cleared up."""


@asynccontextmanager
async def hold_lock(path: Path, *, patience_s: float = PATIENCE_S) -> AsyncIterator[int]:
    """Hold the lock of this file; raise StackFailed if others still do after `patience_s`.

    The lock is the file descriptor: a child that inherits it holds the lock if we die first.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = asyncio.get_running_loop().time() + patience_s
        while not _try_lock(lock):
            if asyncio.get_running_loop().time() >= deadline:
                raise StackFailed(
                    f"{path.parent} is in use by another batchd dev. Stop that one, or name "
                    "another folder with --data-dir."
                )
            await asyncio.sleep(POLL_S)
        yield lock
    finally:
        os.close(lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
