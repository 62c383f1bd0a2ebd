"""The memory budget is never exceeded by waiters, and never leaks."""

import asyncio
from contextlib import suppress

import pytest

from batchd.services.memory_budget import ProcessMemoryBudget


async def let_tasks_run() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_waiters_are_served_in_order() -> None:
    budget = ProcessMemoryBudget(10)
    await budget.acquire(8)
    granted: list[int] = []

    async def wait_for(size: int) -> None:
        await budget.acquire(size)
        granted.append(size)

    tasks = [asyncio.create_task(wait_for(size)) for size in (6, 1, 3)]
    await let_tasks_run()
    assert granted == []  # not even 1, which would fit: it would overtake
    budget.release(8)
    await asyncio.gather(*tasks)
    assert granted == [6, 1, 3]
    assert not budget.try_reserve(1)


async def test_more_than_the_budget_is_granted_to_one_at_a_time() -> None:
    budget = ProcessMemoryBudget(10)
    await budget.acquire(25)
    second = asyncio.create_task(budget.acquire(25))
    await let_tasks_run()
    assert not second.done()
    budget.release(25)
    await second
    budget.release(25)
    assert budget.try_reserve(10)


@pytest.mark.parametrize("granted", [False, True], ids=["waiting", "granted meanwhile"])
async def test_cancelled_waiter_leaves_its_bytes_to_the_next(*, granted: bool) -> None:
    budget = ProcessMemoryBudget(10)
    await budget.acquire(10)
    cancelled = asyncio.create_task(budget.acquire(9))
    waiting = asyncio.create_task(budget.acquire(2))
    await let_tasks_run()
    if granted:
        budget.release(10)
    cancelled.cancel()
    with suppress(asyncio.CancelledError):
        await cancelled
    if not granted:
        budget.release(10)
    await waiting
    assert budget.try_reserve(8)


@pytest.mark.parametrize(("size", "reserved"), [(6, True), (7, False)])
def test_only_free_bytes_are_reserved(*, size: int, reserved: bool) -> None:
    budget = ProcessMemoryBudget(10)
    budget.reserve(4)
    assert budget.try_reserve(size) is reserved
