"""The circuit breaker of an upstream: open while it answers nobody, and probed by single calls."""

MIN_PROBE_INTERVAL_S = 1.0


class UpstreamBreaker:
    """Opened by calls in a row that had no answer, closed by one answer. Times are monotonic."""

    def __init__(self) -> None:
        self.reason = ""
        """Of the last failure."""
        self._failures = 0
        self._opened_at: float | None = None
        self._probe_at = 0.0
        self._interval_s = MIN_PROBE_INTERVAL_S
        self._is_probing = False

    def duration_s(self, now: float) -> float | None:
        """Return for how long it has been open; None if it is closed."""
        return None if self._opened_at is None else now - self._opened_at

    def is_probe_due(self, now: float) -> bool:
        return now >= self._probe_at and not self._is_probing

    def begin_probe(self) -> None:
        """Make the only call, until the probe is ended."""
        self._is_probing = True

    def end_probe(self) -> None:
        """Let another call be the next probe, also if this one had no outcome."""
        self._is_probing = False

    def retry_after_s(self, now: float, *, jitter: float) -> float:
        """Return when a probe may be due again.

        The jitter, from 0 to 1, spreads those who wait over one more interval.
        """
        until_probe_s = self._interval_s if self._is_probing else max(0.0, self._probe_at - now)
        return until_probe_s + jitter * self._interval_s

    def record_answer(self) -> None:
        """Close the breaker."""
        self._opened_at = None
        self._failures = 0

    def record_failure(
        self, reason: str, *, now: float, is_probe: bool, max_failures: int, max_interval_s: float
    ) -> bool:
        """Count a call without an answer; return whether it opened the breaker."""
        self.reason = reason
        self._failures += 1
        is_opened = self._opened_at is None and self._failures >= max_failures
        if is_opened:
            self._opened_at = now
            self._interval_s = min(MIN_PROBE_INTERVAL_S, max_interval_s)
        elif is_probe:
            self._interval_s = min(2 * self._interval_s, max_interval_s)
        if is_opened or is_probe:
            self._probe_at = now + self._interval_s
        return is_opened
