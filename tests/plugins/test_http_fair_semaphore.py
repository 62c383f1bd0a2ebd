"""The fair semaphore: a limit on concurrent calls, granted to the accounts in turn."""

import asyncio
from uuid import UUID

from batchd.domain.ids import AccountId
from batchd.plugins.http_operations.fair_semaphore import FairSemaphore

GIANT, SMALL, OTHER = (AccountId(UUID(int=n)) for n in range(3))


class Calls:
    """Calls that run until the test ends them."""

    def __init__(self, limit: int) -> None:
        self.semaphore = FairSemaphore(limit)
        self.started: list[AccountId] = []
        self.ends = asyncio.Semaphore(0)
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, account: AccountId, count: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._call(account)) for _ in range(count)]
        await self.run_until_blocked()

    async def end(self, count: int) -> None:
        for _ in range(count):
            self.ends.release()
        await self.run_until_blocked()

    async def run_until_blocked(self) -> None:
        for _ in range(10 * (len(self.tasks) + 1)):
            await asyncio.sleep(0)

    async def _call(self, account: AccountId) -> None:
        await self.semaphore.acquire(account)
        try:
            self.started.append(account)
            await self.ends.acquire()
        finally:
            self.semaphore.release()


async def test_no_more_calls_run_than_the_limit_allows() -> None:
    calls = Calls(2)
    await calls.start(GIANT, 5)
    assert calls.started == [GIANT] * 2
    await calls.end(2)
    assert calls.started == [GIANT] * 4
    await calls.end(3)
    assert calls.started == [GIANT] * 5


async def test_accounts_are_served_in_turn() -> None:
    calls = Calls(1)
    await calls.start(GIANT, 5)
    await calls.start(SMALL, 2)
    await calls.start(OTHER, 1)
    await calls.end(8)
    assert calls.started == [GIANT, GIANT, SMALL, OTHER, GIANT, SMALL, GIANT, GIANT]


async def test_call_cancelled_while_waiting_takes_no_permit() -> None:
    calls = Calls(1)
    await calls.start(GIANT, 3)
    calls.tasks[1].cancel()
    await calls.run_until_blocked()
    await calls.end(1)
    assert calls.started == [GIANT] * 2
    await calls.end(1)
    await calls.start(SMALL)
    assert calls.started == [GIANT, GIANT, SMALL]


async def test_call_cancelled_as_it_is_granted_passes_the_permit_on() -> None:
    calls = Calls(1)
    await calls.start(GIANT, 2)
    await calls.start(SMALL)
    calls.ends.release()
    await asyncio.sleep(0)
    # The first call has released its permit to the second, which has not resumed yet.
    calls.tasks[1].cancel()
    await calls.run_until_blocked()
    assert calls.started == [GIANT, SMALL]
