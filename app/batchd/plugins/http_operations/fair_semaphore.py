"""The limit on concurrent calls, shared fairly among accounts."""

import asyncio
from collections import OrderedDict, deque

from batchd.domain.ids import AccountId


class FairSemaphore:
    """A semaphore that serves the accounts round-robin, and the calls of each in their order."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._available = limit
        """Negative as long as more permits are in use than a lowered limit allows."""
        self._queues: OrderedDict[AccountId, deque[asyncio.Future[None]]] = OrderedDict()
        """The waiting calls; the account to be served next comes first."""

    async def acquire(self, account: AccountId) -> None:
        """Wait for a permit, which the caller must release in any case.

        Not a context manager: one made from a generator costs a twentieth of a call.
        """
        if self._available > 0 and not self._queues:
            self._available -= 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._queues.setdefault(account, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._remove(account, waiter)
            else:  # the permit was granted at the same moment: pass it on
                self.release()
            raise

    def _remove(self, account: AccountId, waiter: "asyncio.Future[None]") -> None:
        queue = self._queues.get(account)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._queues[account]

    def release(self) -> None:
        """Pass the permit on to the next account that waits."""
        self._available += 1
        self._grant()

    def resize(self, limit: int) -> None:
        """Change the limit: calls that wait get new permits, and those that run keep theirs."""
        if limit != self._limit:
            self._available += limit - self._limit
            self._limit = limit
            self._grant()

    @property
    def is_exhausted(self) -> bool:
        """Whether all permits are in use."""
        return self._available <= 0

    def _grant(self) -> None:
        while self._available > 0 and self._queues:
            account, queue = self._queues.popitem(last=False)
            waiter = queue.popleft()
            if queue:
                self._queues[account] = queue  # behind the others
            if not waiter.done():
                self._available -= 1
                waiter.set_result(None)
