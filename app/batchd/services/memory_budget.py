"""The memory budget: bounds the bytes that one process holds for its lines."""

import asyncio
from collections import deque


class ProcessMemoryBudget:
    """Implements `domain.operations.MemoryBudget`: waiters are served in order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    def reserve(self, size: int) -> None:
        """Count bytes that are used regardless of the limit."""
        self._used += size

    def try_reserve(self, size: int) -> bool:
        """Reserve bytes if they are free and nobody is waiting for them."""
        if self._waiters or self._used + size > self._limit:
            return False
        self._used += size
        return True

    async def acquire(self, size: int) -> None:
        """Wait for bytes, which the caller must release.

        More than the budget is granted while nothing else is reserved.
        """
        if not self._waiters and self._fits(size):
            self._used += size
            return
        waiter = asyncio.get_running_loop().create_future()
        entry = (size, waiter)
        self._waiters.append(entry)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                if entry in self._waiters:
                    self._waiters.remove(entry)
                self._wake()
            else:  # the bytes were granted at the same moment
                self.release(size)
            raise

    def release(self, size: int) -> None:
        """Return what was acquired or reserved."""
        self._used -= size
        self._wake()

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._limit

    def _wake(self) -> None:
        while self._waiters and self._fits(self._waiters[0][0]):
            size, waiter = self._waiters.popleft()
            if not waiter.done():
                self._used += size
                waiter.set_result(None)
