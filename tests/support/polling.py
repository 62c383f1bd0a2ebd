"""Waits for something to become true, never for a time to pass."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_LOOK_EVERY_S = 0.02


async def eventually(
    look: Callable[[], Awaitable[T]], until: Callable[[T], bool], *, within_s: float = 30.0
) -> T:
    """Look again and again; return the first sight that satisfies `until`."""
    deadline = time.monotonic() + within_s
    while not until(seen := await look()):
        assert time.monotonic() < deadline, f"still {seen!r} after {within_s} s"
        await asyncio.sleep(_LOOK_EVERY_S)
    return seen
