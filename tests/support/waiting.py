"""Waiting for something in another process, which can only be polled."""

import time
from collections.abc import Callable

from tests.support.polling import TIMEOUT_S

POLL_S = 0.02


def until(condition: Callable[[], object], *, seconds: float = TIMEOUT_S) -> None:
    """Return as soon as the condition is true; fail if it does not become so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds:g} s: {condition}"
        time.sleep(POLL_S)


def has_exited(pid: int) -> bool:
    """Return whether the process has exited; a zombie counts as exited."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123  # not a real file
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
