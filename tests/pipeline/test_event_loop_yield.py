"""A long computation in a task lets others run."""

import asyncio
import time
from collections import Counter

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


class Iterations:
    """Counts the iterations of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)

    def stop(self) -> None:
        self._task.cancel()


async def yields(count: int) -> int:
    """Return how often other tasks have run while one yields so many times."""
    iterations = Iterations()
    yield_control = EventLoopYield()
    yielded = 0
    for _ in range(count):
        before = iterations.count
        await yield_control()
        yielded += iterations.count > before
    iterations.stop()
    return yielded


@pytest.mark.parametrize(("step_s", "expected"), [(0.002, 10), (0.0005, 2), (0.0, 0)])
async def test_control_is_yielded_every_two_milliseconds(
    monkeypatch: pytest.MonkeyPatch, step_s: float, expected: int
) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock(step_s))
    assert await yields(10) == expected


async def test_tasks_that_compute_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock(0.002))
    iterations = Iterations()
    turns: list[tuple[int, str]] = []

    async def compute(name: str) -> None:
        yield_control = EventLoopYield()
        for _ in range(3):
            await yield_control()
            turns.append((iterations.count, name))

    await asyncio.gather(*(compute(name) for name in "abc"))
    iterations.stop()
    assert [name for _, name in turns] == list("abcabcabc")
    assert set(Counter(iteration for iteration, _ in turns).values()) == {1}


async def test_cancelled_task_gives_its_turn_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", Clock(0.002))

    async def yield_once() -> None:
        await EventLoopYield()()

    first, second = (asyncio.create_task(yield_once()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
