"""A clock that runs, and can be moved."""

from datetime import UTC, datetime, timedelta


class MovableClock:
    """The present time and whatever has been added to it."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        now = datetime.now(UTC) + self._ahead
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def move(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)
