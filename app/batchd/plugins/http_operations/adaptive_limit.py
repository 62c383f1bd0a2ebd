"""The adaptive limit: how many concurrent calls an upstream answers without queueing them.

As TCP Vegas does for a connection, it compares the time that calls take with the time that they
take while few others are running, and so estimates how many of them only wait in the upstream
(https://doi.org/10.1109/49.464716, https://github.com/Netflix/concurrency-limits).
"""

import math
from statistics import fmean, pstdev

INITIAL = 32
_MIN_SAMPLES = 10
_MIN_WINDOW_S = 0.2
_START_FACTOR = 1.5
_DECREASE = 0.5
_ROOM = 0.9
"""The share of what the upstream works on at once that it gets after it had a queue."""
_MEASURED_SHARE = 0.25
_MIN_QUEUE, _MAX_QUEUE = 0.5, 2.0
"""Calls that may wait in the upstream: fewer raise the limit, more lower it."""
_RESOLUTION_S = 0.001
"""Differences below it are those of the network and of this process."""
_STANDARD_ERRORS = 2.0
"""By which two means must differ to be different."""
_MEASURE_INTERVAL_S = 10.0
_MEASURE_INTERVAL_WINDOWS = 20


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, between 1 and the maximum.

    Each change is followed by a window, which is as many calls as may run concurrently, made after
    the change. Now and then a window has a quarter of the limit, to learn what a call takes
    unqueued: the upstream may have become slower or faster.
    """

    def __init__(self, maximum: int, *, now: float) -> None:
        """All times are monotonic."""
        self.maximum = maximum
        self._limit = float(INITIAL)
        self._is_starting = True
        self._is_measuring = False
        self._measured_at = -math.inf
        self._windows = 0
        """Since the last measurement."""
        self._unqueued_s: dict[str, float] = {}
        """The time that a call takes while few others are running, by operation."""
        self._begin_window(now)

    @property
    def value(self) -> int:
        limit = min(self._limit, self.maximum)
        return max(1, int(limit * _MEASURED_SHARE if self._is_measuring else limit))

    def _begin_window(self, now: float) -> None:
        self._began_at = now
        self._samples: dict[str, list[float]] = {}
        self._count = 0
        self._was_exhausted = False

    def record(
        self, operation: str, *, started_at: float, now: float, is_exhausted: bool = True
    ) -> None:
        """Record a call that was answered, and whether all permits were in use."""
        if started_at < self._began_at:
            return
        self._samples.setdefault(operation, []).append(now - started_at)
        self._count += 1
        self._was_exhausted |= is_exhausted
        is_long_enough = now - self._began_at >= _MIN_WINDOW_S
        if is_long_enough and self._count >= max(self.value, _MIN_SAMPLES):
            self._end_window(now)

    def record_overload(self, *, started_at: float, now: float) -> None:
        """Record a call that was refused or timed out, once per round of concurrent calls."""
        if started_at < self._began_at:
            return
        self._limit = max(1.0, min(self._limit, self.maximum) * _DECREASE)
        self._is_starting = self._is_measuring = False
        self._begin_window(now)

    def restart(self, *, now: float) -> None:
        """Let it grow as fast as at the beginning, after a pause of the upstream."""
        self._is_starting = True
        self._begin_window(now)

    def _end_window(self, now: float) -> None:
        windows = {name: _Window(values) for name, values in self._samples.items()}
        if self._is_measuring:
            self._unqueued_s.update({name: window.upper_s for name, window in windows.items()})
            self._is_measuring = False
            self._measured_at = now
            self._windows = 0
        else:
            for name, window in windows.items():
                known_s = self._unqueued_s.get(name, math.inf)
                self._unqueued_s[name] = min(known_s, window.upper_s)
            if self._was_exhausted:
                self._adjust(windows)
            self._windows += 1
            self._is_measuring = self._is_due(now)
        self._begin_window(now)

    def _is_due(self, now: float) -> bool:
        return self._measured_at == -math.inf or (
            self._windows >= _MEASURE_INTERVAL_WINDOWS
            and now - self._measured_at >= _MEASURE_INTERVAL_S
        )

    def _adjust(self, windows: "dict[str, _Window]") -> None:
        limit = min(self._limit, self.maximum)
        waiting_share = sum(
            window.size * window.waiting_share(self._unqueued_s[name])
            for name, window in windows.items()
        )
        queue = limit * waiting_share / self._count
        if queue > _MAX_QUEUE:
            if self._is_starting:
                self._measured_at = -math.inf  # what it compares with was measured under load
            self._is_starting = False
            limit = max(limit * _DECREASE, (limit - queue) * _ROOM)
        elif queue > _MIN_QUEUE:
            self._is_starting = False
        else:
            step = max(1.0, math.sqrt(limit) / 4)
            limit = limit * _START_FACTOR if self._is_starting else limit + step
        self._limit = max(1.0, min(limit, self.maximum))


class _Window:
    """The times of the calls of one operation in one window."""

    def __init__(self, values: list[float]) -> None:
        self.size = len(values)
        # By Little's law the mean shows how many calls wait, also if they come and go in bursts.
        self.mean_s = fmean(values)
        deviation_s = pstdev(values, self.mean_s)
        self._error_s = max(_RESOLUTION_S, _STANDARD_ERRORS * deviation_s / math.sqrt(self.size))

    @property
    def upper_s(self) -> float:
        """The mean, at most: the smallest of many means would be too small by chance."""
        return self.mean_s + self._error_s

    def waiting_share(self, unqueued_s: float) -> float:
        """Return which share of its time a call waits, as far as that is more than chance."""
        waiting_s = self.mean_s - unqueued_s - self._error_s
        return waiting_s / self.mean_s if waiting_s > 0 else 0.0
