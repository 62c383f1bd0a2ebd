"""/readyz and /metrics cost one computation per second, however many requests there are."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping

import pytest

from batchd.api.shared_result import SharedResult
from batchd.observability import metrics
from batchd.services.health import Health
from batchd.settings import Settings
from tests.support.callers import ApiCaller

REQUESTS = 64


@pytest.fixture
def computations(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often each path's answer was computed; made before the API is served."""
    counted = Counter[str]()
    check, exposition = Health.check, metrics.exposition

    async def counted_check(self: Health) -> Mapping[str, bool]:
        counted["/readyz"] += 1
        return await check(self)

    def counted_exposition() -> bytes:
        counted["/metrics"] += 1
        return exposition()

    monkeypatch.setattr(Health, "check", counted_check)
    monkeypatch.setattr(metrics, "exposition", counted_exposition)
    return counted


@pytest.fixture
def settings(settings: Settings, computations: Counter[str]) -> Settings:
    """Have them counted from the beginning."""
    assert not computations
    return settings


class Computation:
    """Counts how often it runs, and at the same time; waits until it is released."""

    def __init__(self) -> None:
        self.runs = 0
        self.running = 0
        self.max_running = 0
        self.released = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.runs += 1
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        await self.released.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error
        return self.runs


async def test_requests_share_one_computation_for_its_lifetime() -> None:
    now = 100.0
    computation = Computation()
    shared = SharedResult(computation, ttl_s=1.0, monotonic=lambda: now)
    waiting = [asyncio.create_task(shared.get()) for _ in range(REQUESTS)]
    await asyncio.sleep(0)
    computation.released.set()
    assert await asyncio.gather(*waiting) == [1] * REQUESTS
    now = 100.9
    assert await shared.get() == 1
    now = 101.0
    assert await asyncio.gather(*(shared.get() for _ in range(REQUESTS))) == [2] * REQUESTS
    assert computation.max_running == 1


async def test_failure_is_shared_and_then_computed_again() -> None:
    now = 0.0
    computation = Computation()
    computation.released.set()
    computation.error = RuntimeError("away")
    shared = SharedResult(computation, ttl_s=1.0, monotonic=lambda: now)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="away"):
            await shared.get()
    assert computation.runs == 1
    computation.error, now = None, 1.0
    assert await shared.get() == 2


async def test_disconnect_does_not_cancel_the_computation_for_others() -> None:
    computation = Computation()
    shared = SharedResult(computation)
    leaving, staying = (asyncio.create_task(shared.get()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    computation.released.set()
    assert await staying == 1


@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
async def test_many_requests_cause_one_computation_per_second(
    caller: ApiCaller, computations: Counter[str], path: str
) -> None:
    async def status(path: str) -> int:
        async with caller.session.get(f"{caller.url}{path}") as response:
            await response.read()
            return response.status

    started = time.monotonic()
    assert await asyncio.gather(*(status(path) for _ in range(REQUESTS))) == [200] * REQUESTS
    assert 1 <= computations[path] <= 1 + (time.monotonic() - started)
