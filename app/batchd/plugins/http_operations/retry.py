"""When a call is made again, and how long it waits for that."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from batchd.plugins.http_operations.client import NoResponse, Reply
from batchd.plugins.http_operations.schema import Retry


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """Time and chance; a test brings its own."""

    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    chance: Callable[[], float] = random.random
    """From 0 to 1."""
    now: Callable[[], datetime] = _now


def delay_s(
    retry: Retry, outcome: Reply | NoResponse, attempt: int, pacing: Pacing
) -> float | None:
    """Return how long to wait after this attempt, the first being 1; None: it was the last."""
    if attempt >= retry.attempts or not _is_retried(retry, outcome):
        return None
    # Full jitter: of many lines that failed together, no two come back together.
    ceiling: float = min(retry.max_backoff_s, retry.backoff_s * 2.0 ** (attempt - 1))
    wait_s = pacing.chance() * ceiling
    if isinstance(outcome, Reply):
        asked_s = _retry_after_s(outcome.retry_after, pacing.now())
        # Never before the upstream wants it, and still not all at once.
        wait_s += min(asked_s, retry.max_retry_after_s)
    return wait_s


def _is_retried(retry: Retry, outcome: Reply | NoResponse) -> bool:
    if isinstance(outcome, Reply):
        return outcome.status in retry.statuses
    return retry.unanswered


def _retry_after_s(text: str, now: datetime) -> float:
    """Read seconds or a date (RFC 9110, 10.2.3); what is neither asks for nothing."""
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())
