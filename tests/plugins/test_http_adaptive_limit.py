"""The adaptive limit, against a simulated upstream that works on a number of calls at once."""

import heapq
import random

import pytest

from batchd.plugins.http_operations.adaptive_limit import INITIAL, AdaptiveLimit


class SimulatedUpstream:
    """Gets as many calls as the limit allows, and queues those that exceed its capacity."""

    def __init__(self, capacity: int, *, call_s: float, spread: float = 0.02) -> None:
        self.capacity = capacity
        self.call_s = call_s
        self._spread = spread
        self._random = random.Random(1)
        self._free_at = [0.0] * capacity
        self._running: list[tuple[float, float]] = []
        """When the calls end, and when they began."""
        self.now = 0.0

    def resize(self, capacity: int) -> None:
        self.capacity = capacity
        self._free_at = [self.now] * capacity

    def run(self, limit: AdaptiveLimit, *, calls: int, demand: int = 1_000) -> None:
        """Have this many calls made, `demand` at once if the limit allows it."""
        for _ in range(calls):
            while len(self._running) < min(limit.value, demand):
                self._start()
            ended_at, began_at = heapq.heappop(self._running)
            self.now = ended_at
            is_exhausted = demand > limit.value
            limit.record("op", started_at=began_at, now=ended_at, is_exhausted=is_exhausted)

    def _start(self) -> None:
        duration_s = self.call_s * (1 + self._spread * (self._random.random() - 0.5))
        ended_at = max(heapq.heappop(self._free_at), self.now) + duration_s
        heapq.heappush(self._free_at, ended_at)
        heapq.heappush(self._running, (ended_at, self.now))


def settled(limit: AdaptiveLimit, upstream: SimulatedUpstream) -> list[int]:
    """Return the limits while the last of many calls are made."""
    upstream.run(limit, calls=20_000)
    limits = []
    for _ in range(200):
        upstream.run(limit, calls=10)
        limits.append(limit.value)
    return sorted(limits)


@pytest.mark.parametrize("capacity", [4, 16, 100, 250])
@pytest.mark.parametrize("call_s", [0.02, 1.0])
@pytest.mark.parametrize("spread", [0.02, 0.5], ids=["even", "varying"])
def test_it_settles_at_what_the_upstream_works_on_at_once(
    capacity: int, call_s: float, spread: float
) -> None:
    upstream = SimulatedUpstream(capacity, call_s=call_s, spread=spread)
    limits = settled(AdaptiveLimit(1_000, now=0.0), upstream)
    typical = limits[len(limits) // 2]
    assert 0.9 * capacity <= typical <= 1.25 * capacity + 4


def test_it_begins_with_some_calls_and_not_with_the_maximum() -> None:
    assert AdaptiveLimit(1_000, now=0.0).value == INITIAL


def test_it_never_exceeds_the_maximum() -> None:
    assert settled(AdaptiveLimit(64, now=0.0), SimulatedUpstream(500, call_s=0.1))[-1] == 64


def test_a_maximum_that_is_lowered_holds_at_once() -> None:
    limit = AdaptiveLimit(64, now=0.0)
    limit.maximum = 3
    assert limit.value == 3


def test_it_follows_an_upstream_that_loses_capacity_and_gets_it_back() -> None:
    upstream = SimulatedUpstream(100, call_s=0.05)
    limit = AdaptiveLimit(1_000, now=0.0)
    settled(limit, upstream)
    upstream.resize(10)
    assert settled(limit, upstream)[100] < 20
    upstream.resize(100)
    assert settled(limit, upstream)[100] > 80


def test_calls_that_simply_take_longer_from_now_on_do_not_lower_it_for_good() -> None:
    upstream = SimulatedUpstream(50, call_s=0.05)
    limit = AdaptiveLimit(1_000, now=0.0)
    settled(limit, upstream)
    upstream.call_s = 0.2
    assert settled(limit, upstream)[100] > 40


def test_it_does_not_grow_without_demand() -> None:
    limit = AdaptiveLimit(1_000, now=0.0)
    SimulatedUpstream(500, call_s=0.1).run(limit, calls=5_000, demand=5)
    assert limit.value <= INITIAL


def test_an_overload_halves_it_once_per_round() -> None:
    limit = AdaptiveLimit(INITIAL, now=0.0)
    for _ in range(INITIAL):
        limit.record_overload(started_at=0.0, now=1.0)
    assert limit.value == INITIAL // 2
    limit.record_overload(started_at=1.0, now=2.0)
    assert limit.value == INITIAL // 4


def test_it_is_never_less_than_one() -> None:
    limit = AdaptiveLimit(INITIAL, now=0.0)
    for second in range(20):
        limit.record_overload(started_at=float(second), now=float(second + 1))
    assert limit.value == 1
