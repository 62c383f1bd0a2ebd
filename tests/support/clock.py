"""A clock that runs, and can be moved."""

import time
from datetime import UTC, datetime, timedelta


class MovableClock:
    """The present time and whatever has been added to it."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self._monotonic_ahead_s = 0.0

    def now(self) -> datetime:
        now = datetime.now(UTC) + self._ahead
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def move(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return time.monotonic() + self._monotonic_ahead_s

    def move_monotonic(self, seconds: float) -> None:
        """Let so much time pass for what measures durations, like a frozen process."""
        self._monotonic_ahead_s += seconds
