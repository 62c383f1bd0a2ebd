"""The retry policy: which outcomes are retried, and after what delay."""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from batchd.domain.operations import OperationCall
from batchd.plugins.http_operations.client import NoResponse, UpstreamResponse
from batchd.plugins.http_operations.schema import Retry


def _now() -> datetime:
    return datetime.now(UTC)


def _pause(call: OperationCall, seconds: float) -> Awaitable[object]:
    return call.pause(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTiming:
    """The clock and the random numbers, replaceable in tests."""

    pause: Callable[[OperationCall, float], Awaitable[object]] = _pause
    """Raises CancelledError at once when the line must end."""
    jitter: Callable[[], float] = random.random
    """From 0 to 1."""
    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic


def retry_delay_s(
    retry: Retry, outcome: UpstreamResponse | NoResponse, attempt: int, timing: RetryTiming
) -> float | None:
    """Return the delay after this attempt, counted from 1; None if it was the last."""
    if attempt >= retry.attempts or not _is_retried(retry, outcome):
        return None
    # Full jitter spreads the retries of lines that failed together.
    max_delay_s: float = min(retry.max_backoff_s, retry.backoff_s * 2.0 ** (attempt - 1))
    delay_s = timing.jitter() * max_delay_s
    if isinstance(outcome, UpstreamResponse):
        # Not before the upstream allows it, and still not all at the same time.
        delay_s += retry_after_s(retry, outcome, timing)
    return delay_s


def retry_after_s(retry: Retry, outcome: UpstreamResponse, timing: RetryTiming) -> float:
    """Return for how long the upstream asks not to be called; 0 if it does not ask."""
    if not outcome.retry_after or outcome.status not in retry.statuses:
        return 0.0
    return min(_parse_retry_after(outcome.retry_after, timing.now()), retry.max_retry_after_s)


def may_be_repeated(retry: Retry, outcome: UpstreamResponse | NoResponse) -> bool:
    """Return whether the line may be called again, however many attempts it has had."""
    if isinstance(outcome, NoResponse) and not outcome.was_sent:
        return True
    return retry.attempts > 1 and _is_retried(retry, outcome)


def _is_retried(retry: Retry, outcome: UpstreamResponse | NoResponse) -> bool:
    if isinstance(outcome, UpstreamResponse):
        return outcome.status in retry.statuses
    return retry.unanswered


def _parse_retry_after(text: str, now: datetime) -> float:
    """Return the seconds until the given delay or date (RFC 9110, 10.2.3); 0 if it is invalid."""
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
