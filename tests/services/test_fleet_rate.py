"""A fleet-wide rate is kept by any number of processes, and used fully."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr

from batchd.db import rates
from batchd.db.connection import Database, open_database
from batchd.services.fleet_rate import FleetRateLimiter
from batchd.settings import Settings
from tests.support.polling import NEVER_S, TIMEOUT_S, eventually
from tests.support.relay import relay_to

pytestmark = pytest.mark.slow


def settings_of(url: str) -> Settings:
    return Settings(database_url=SecretStr(url))


@pytest.fixture
async def databases(database_url: str) -> AsyncIterator[list[Database]]:
    """Return three pools, as three processes have them."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_database(settings_of(database_url)))
            for _ in range(3)
        ]


async def calls_at(
    fleet: list[FleetRateLimiter], *, callers: int, per_s: float, seconds: float
) -> list[float]:
    """Let so many callers of each process call as often as they may; return when they did."""
    call_times: list[float] = []
    end = time.monotonic() + seconds

    async def caller(process: FleetRateLimiter) -> None:
        while time.monotonic() < end:
            await process.acquire("op", per_s)
            call_times.append(time.monotonic())

    tasks = [asyncio.create_task(caller(process)) for process in fleet for _ in range(callers)]
    await asyncio.gather(*tasks)
    return [call_time for call_time in call_times if call_time < end]


def max_calls_within(call_times: list[float], window_s: float) -> int:
    """Return the most calls that were made in any stretch of so many seconds."""
    first_index = highest = 0
    for last, call_time in enumerate(call_times):
        while call_times[first_index] < call_time - window_s:
            first_index += 1
        highest = max(highest, last - first_index + 1)
    return highest


@pytest.mark.parametrize(
    ("per_s", "callers"), [(200, 20), (1000, 40), (40, 1)], ids=["200", "1000", "few callers"]
)
async def test_rate_applies_to_all_processes_together(
    databases: list[Database], per_s: float, callers: int
) -> None:
    fleet = [FleetRateLimiter(database) for database in databases]
    await calls_at(fleet, callers=callers, per_s=per_s, seconds=0.2)
    started = time.monotonic()
    call_times = await calls_at(fleet, callers=callers, per_s=per_s, seconds=2.0)
    took_s = time.monotonic() - started
    assert 0.9 * per_s * 2.0 <= len(call_times) <= 1.1 * per_s * took_s
    assert max_calls_within(sorted(call_times), 1.0) <= 1.1 * per_s + per_s * 0.2


@pytest.fixture
def reserved_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many calls each slice has that is reserved during the test."""
    reserved: list[int] = []
    reserve = rates.reserve

    async def recording(*arguments: object, calls: int, **more: object) -> float:
        reserved.append(calls)
        return await reserve(*arguments, calls=calls, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(rates, "reserve", recording)
    return reserved


async def test_row_is_not_updated_for_every_call(
    databases: list[Database], reserved_calls: list[int]
) -> None:
    for callers in (20, 1):
        reserved_calls.clear()
        call_times = await calls_at(
            [FleetRateLimiter(databases[0])], callers=callers, per_s=500, seconds=1.0
        )
        assert sum(reserved_calls) >= len(call_times)
        assert len(reserved_calls) < len(call_times) / 10


async def test_different_rates_of_one_name_are_independent(databases: list[Database]) -> None:
    process = FleetRateLimiter(databases[0])
    await process.acquire("op", 0.001)
    async with asyncio.timeout(TIMEOUT_S):
        await process.acquire("op", 100)
        await process.acquire("another", 0.001)


async def calls_left(process: FleetRateLimiter) -> int:
    """Return how many calls of the reserved slice have not been made."""
    (lane,) = process._slices.values()
    return lane.remaining


async def test_cancelled_waiter_leaves_its_call_to_the_next(
    databases: list[Database], reserved_calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchd.services.fleet_rate._GRACE_S", NEVER_S)
    process = FleetRateLimiter(databases[0])
    await process.acquire("op", 2)
    waiting = [asyncio.create_task(process.acquire("op", 2)) for _ in range(5)]
    await eventually(lambda: calls_left(process), lambda calls: calls == 1)
    for task in waiting[:4]:
        task.cancel()
    await waiting[4]
    assert reserved_calls == [1, 1]
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_limiter_waits_during_an_outage_of_the_database(database_url: str) -> None:
    async with (
        relay_to(database_url) as relay,
        open_database(settings_of(relay.url)) as database,
    ):
        process = FleetRateLimiter(database)
        await process.acquire("op", 1000)
        await relay.cut()
        waiting = asyncio.create_task(process.acquire("op", 0.5))
        await asyncio.wait([waiting], timeout=0.7)
        assert not waiting.done()
        await relay.mend()
        async with asyncio.timeout(TIMEOUT_S):
            await waiting
