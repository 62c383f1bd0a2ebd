"""Waits for something to become true, never for a time to pass."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

TIMEOUT_S = 60.0
"""The usual time limit of a test's step, which takes a second at most."""
NEVER_S = 3600.0
"""A time limit, lease or interval that no test reaches, however slow the machine."""

_POLL_INTERVAL_S = 0.02


async def eventually(
    get: Callable[[], Awaitable[T]], until: Callable[[T], bool], *, within_s: float = TIMEOUT_S
) -> T:
    """Call `get` repeatedly; return the first value that satisfies `until`."""
    deadline = time.monotonic() + within_s
    while not until(value := await get()):
        assert time.monotonic() < deadline, f"still {value!r} after {within_s} s"
        await asyncio.sleep(_POLL_INTERVAL_S)
    return value
