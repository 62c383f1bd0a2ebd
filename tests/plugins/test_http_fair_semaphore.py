"""The places for calls: bounded, and shared by the accounts in turn."""

import asyncio
from uuid import UUID

from batchd.domain.ids import AccountId
from batchd.plugins.http_operations.fair_semaphore import FairSemaphore

GIANT, SMALL, OTHER = (AccountId(UUID(int=n)) for n in range(3))


class Calls:
    """Calls that last until they are ended."""

    def __init__(self, number: int) -> None:
        self.places = FairSemaphore(number)
        self.begun: list[AccountId] = []
        self.ends = asyncio.Semaphore(0)
        self.tasks: list[asyncio.Task[None]] = []

    async def make(self, account: AccountId, number: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._call(account)) for _ in range(number)]
        await self.settle()

    async def end(self, number: int) -> None:
        for _ in range(number):
            self.ends.release()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10 * (len(self.tasks) + 1)):
            await asyncio.sleep(0)

    async def _call(self, account: AccountId) -> None:
        await self.places.take(account)
        try:
            self.begun.append(account)
            await self.ends.acquire()
        finally:
            self.places.give()


async def test_no_more_calls_are_under_way_than_there_are_places() -> None:
    calls = Calls(2)
    await calls.make(GIANT, 5)
    assert calls.begun == [GIANT] * 2
    await calls.end(2)
    assert calls.begun == [GIANT] * 4
    await calls.end(3)
    assert calls.begun == [GIANT] * 5


async def test_accounts_are_served_in_turn() -> None:
    calls = Calls(1)
    await calls.make(GIANT, 5)
    await calls.make(SMALL, 2)
    await calls.make(OTHER, 1)
    await calls.end(8)
    assert calls.begun == [GIANT, GIANT, SMALL, OTHER, GIANT, SMALL, GIANT, GIANT]


async def test_who_leaves_while_waiting_takes_nobodys_place() -> None:
    calls = Calls(1)
    await calls.make(GIANT, 3)
    calls.tasks[1].cancel()
    await calls.settle()
    await calls.end(1)
    assert calls.begun == [GIANT] * 2
    await calls.end(1)
    await calls.make(SMALL)
    assert calls.begun == [GIANT, GIANT, SMALL]


async def test_who_leaves_in_the_moment_of_its_turn_passes_it_on() -> None:
    calls = Calls(1)
    await calls.make(GIANT, 2)
    await calls.make(SMALL)
    calls.ends.release()
    await asyncio.sleep(0)
    # The first has ended and given its place to the second, which has not been told yet.
    calls.tasks[1].cancel()
    await calls.settle()
    assert calls.begun == [GIANT, SMALL]
