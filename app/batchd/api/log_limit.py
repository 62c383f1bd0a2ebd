"""Limits the log records per second of failures that anyone can cause."""

import time
from collections.abc import Callable

PER_S = 5.0
_BURST = 20.0


class LogLimit:
    """A token bucket: a client without a secret can neither fill the disk nor flood the log."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._tokens = _BURST
        self._since = monotonic()
        self._omitted = 0

    def allows(self) -> bool:
        """Take a token; count the record as omitted if there is none."""
        now = self._monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._since) * PER_S)
        self._since = now
        if self._tokens < 1:
            self._omitted += 1
            return False
        self._tokens -= 1
        return True

    def take_omitted(self) -> int:
        """Return how many records were omitted since the last call."""
        omitted, self._omitted = self._omitted, 0
        return omitted
