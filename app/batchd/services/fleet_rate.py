"""Limits the call rate of the whole fleet: processes reserve small slices of a shared schedule."""

import asyncio
import math
import time
from dataclasses import dataclass, field

from batchd.db import rates
from batchd.db.connection import Database
from batchd.domain.errors import ProcessingTimeout

_SLICE_S = 0.1
"""The longest slice that a process reserves at once: it bounds how often the row is updated."""
_GRACE_S = 0.1
"""How long after its start a slice may still be used."""
_RETRY_S = 0.5


@dataclass(slots=True)
class _Slice:
    """The reserved slice of one rate, on the monotonic clock of this process."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    next_at: float = -math.inf
    """When the next call may be made; after the last one, the end of the slice."""
    remaining: int = 0
    """Calls that remain of the slice."""
    size: int = 1
    """Calls that the slice began with."""


class FleetRateLimiter:
    """Implements `domain.operations.RateLimiter`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._slices: dict[tuple[str, float], _Slice] = {}

    async def acquire(self, name: str, per_s: float) -> None:
        """Wait until one more call may be made; waiters are served in order."""
        current = self._slices.setdefault((name, per_s), _Slice())
        current.waiting += 1
        try:
            async with current.lock:
                if not current.remaining or current.next_at < time.monotonic() - _GRACE_S:
                    await self._reserve(current, name, per_s)
                await asyncio.sleep(current.next_at - time.monotonic())
                # Only now: a waiter that is cancelled leaves its call to the next one.
                current.next_at += 1 / per_s
                current.remaining -= 1
        finally:
            current.waiting -= 1

    async def _reserve(self, current: _Slice, name: str, per_s: float) -> None:
        """Reserve a slice for all waiters, twice the last one if that was used up early."""
        limit = max(1, int(per_s * _SLICE_S))
        busy = not current.remaining and current.next_at > time.monotonic() - _SLICE_S
        calls = min(limit, max(current.waiting, current.size * 2 if busy else 1))
        starts_in_s = await self._reserve_time(name, per_s, calls)
        current.next_at = time.monotonic() + starts_in_s
        current.remaining = current.size = calls

    async def _reserve_time(self, name: str, per_s: float, calls: int) -> float:
        while True:
            try:
                async with self._database.connection() as connection:
                    return await rates.reserve(
                        connection, name, per_s=per_s, calls=calls, grace_s=_GRACE_S
                    )
            except ProcessingTimeout:
                await asyncio.sleep(_RETRY_S)
