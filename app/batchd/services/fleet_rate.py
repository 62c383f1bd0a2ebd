"""Bounds calls of the whole fleet: each process takes small slices of a time that all share."""

import asyncio
import math
import time
from dataclasses import dataclass, field

from batchd.db import rates
from batchd.db.connection import Database
from batchd.domain.errors import ProcessingTimeout

_SLICE_S = 0.1
"""Of the fleet's time, the most that a process takes at once: so rarely is the row touched."""
_GRACE_S = 0.1
"""A slice that began so long ago is still good."""
_AWAY_S = 0.5


@dataclass(slots=True)
class _Lane:
    """What this process may do under one rate, on its own monotonic clock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    next_at: float = -math.inf
    """When the next call may be made; after the slice's last one, its end."""
    left: int = 0
    """Calls left in the slice."""
    size: int = 1
    """Calls taken with the last slice."""


class FleetRateLimiter:
    """Implements `domain.operations.RateLimiter`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lanes: dict[tuple[str, float], _Lane] = {}

    async def acquire(self, name: str, per_s: float) -> None:
        """Wait until one more call may be made; those who wait come in their order."""
        lane = self._lanes.setdefault((name, per_s), _Lane())
        lane.waiting += 1
        try:
            async with lane.lock:
                if not lane.left or lane.next_at < time.monotonic() - _GRACE_S:
                    await self._take(lane, name, per_s)
                await asyncio.sleep(lane.next_at - time.monotonic())
                # Not before: who is cancelled while waiting leaves the call to the next.
                lane.next_at += 1 / per_s
                lane.left -= 1
        finally:
            lane.waiting -= 1

    async def _take(self, lane: _Lane, name: str, per_s: float) -> None:
        """Take a slice for those who wait, or a larger one where slices are used up quickly."""
        most = max(1, int(per_s * _SLICE_S))
        busy = not lane.left and lane.next_at > time.monotonic() - _SLICE_S
        calls = min(most, max(lane.waiting, lane.size * 2 if busy else 1))
        begins_s = await self._ask(name, per_s, calls)
        lane.next_at = time.monotonic() + begins_s
        lane.left = lane.size = calls

    async def _ask(self, name: str, per_s: float, calls: int) -> float:
        while True:
            try:
                async with self._database.connection() as connection:
                    return await rates.take(
                        connection, name, per_s=per_s, calls=calls, grace_s=_GRACE_S
                    )
            except ProcessingTimeout:
                await asyncio.sleep(_AWAY_S)
