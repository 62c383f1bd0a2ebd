"""Results that many requests may share for a moment, computed by one of them at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

TTL_S = 1.0


class SharedResult(Generic[T]):
    """The result of `compute`, at most one second old.

    It is computed at most once a second, however many requests there are.
    """

    def __init__(
        self,
        compute: Callable[[], Awaitable[T]],
        *,
        ttl_s: float = TTL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._compute = compute
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._task: asyncio.Task[T] | None = None
        self._computed_at = 0.0
        """When the task ended, on the monotonic clock."""

    async def get(self) -> T:
        """Return the result. Raises what `compute` raised, which is shared as well."""
        task = self._task
        if task is None or (task.done() and self._monotonic() - self._computed_at >= self._ttl_s):
            task = self._task = asyncio.create_task(self._run())
        # A client that disconnects ends its own wait, not that of the others.
        return await asyncio.shield(task)

    async def _run(self) -> T:
        try:
            return await self._compute()
        finally:
            self._computed_at = self._monotonic()
