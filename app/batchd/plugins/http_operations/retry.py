"""The retry policy: which outcomes are retried, and after what delay."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from batchd.plugins.http_operations.client import NoResponse, UpstreamResponse
from batchd.plugins.http_operations.schema import Retry


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTiming:
    """The clock and the random numbers, replaceable in tests."""

    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    jitter: Callable[[], float] = random.random
    """From 0 to 1."""
    now: Callable[[], datetime] = _now


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
        retry_after_s = _parse_retry_after(outcome.retry_after, timing.now())
        # Not before the upstream allows it, and still not all at the same time.
        delay_s += min(retry_after_s, retry.max_retry_after_s)
    return delay_s


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
