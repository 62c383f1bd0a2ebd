"""The folders that killed test runs have left behind."""

import fcntl
import shutil
import time
from pathlib import Path

_MIN_AGE_S = 60.0
"""A folder that has just been made is not locked yet."""


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove each folder of a server that is not running any longer, as far as permitted."""
    for folder in parent.glob(f"{prefix}*"):
        try:
            abandoned = time.time() - folder.stat().st_mtime > _MIN_AGE_S and all(
                _is_free(folder / name) for name in ("lock", "server.lock")
            )
        except OSError:
            continue  # another user's, or another run has just removed it
        if abandoned:
            shutil.rmtree(folder, ignore_errors=True)


def _is_free(lock: Path) -> bool:
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
