"""A long computation in a task lets others run."""

import asyncio
import time

import pytest

from batchd.pipeline.event_loop_yield import EventLoopYield


class Clock:
    """Advances by so many seconds each time it is read."""

    def __init__(self, step_s: float) -> None:
        self._now = 0.0
        self._step_s = step_s

    def __call__(self) -> float:
        self._now += self._step_s
        return self._now


async def yields(count: int) -> int:
    """Return how often another task has run while one yields so many times."""
    runs = 0

    async def other() -> None:
        nonlocal runs
        while True:
            runs += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    yield_control = EventLoopYield()
    for _ in range(count):
        await yield_control()
    task.cancel()
    return runs


@pytest.mark.parametrize(("step_s", "expected"), [(0.002, 10), (0.0005, 2), (0.0, 0)])
async def test_control_is_yielded_every_two_milliseconds(
    monkeypatch: pytest.MonkeyPatch, step_s: float, expected: int
) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock(step_s))
    assert await yields(10) == expected
