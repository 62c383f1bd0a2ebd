"""An upstream host: how many calls it gets at once, and when it gets none.

Each process judges by its own calls: several workers share the upstream like other clients do.
"""

import logging

from batchd.domain.ids import AccountId
from batchd.domain.operations import UpstreamUnavailable
from batchd.observability import metrics
from batchd.plugins.http_operations.adaptive_limit import AdaptiveLimit
from batchd.plugins.http_operations.client import NoResponse, UpstreamResponse
from batchd.plugins.http_operations.fair_semaphore import FairSemaphore
from batchd.plugins.http_operations.retry import RetryTiming, retry_after_s
from batchd.plugins.http_operations.schema import OperationSchema
from batchd.plugins.http_operations.upstream_breaker import UpstreamBreaker

logger = logging.getLogger(__name__)

_MAX_PAUSE_S = 2.0
"""A chunk whose lines would wait for longer is released: others can use its slot."""
_OVERLOAD_STATUSES = frozenset({429, 503})


class Upstream:
    """Shared by the operations whose URLs have the same scheme, host and port."""

    def __init__(self, origin: str, timing: RetryTiming) -> None:
        self._origin = origin
        self._timing = timing
        self._limit = AdaptiveLimit(1, now=timing.monotonic())
        self._semaphore = FairSemaphore(1)
        self._breaker = UpstreamBreaker()
        self._is_given_up = False
        self._held_until = 0.0
        self._held_since: float | None = None
        """When it asked for a pause for the first time since a call was last successful."""

    def set_max_concurrency(self, maximum: int) -> None:
        """Bound the adaptive limit. Called in another thread when the file has changed."""
        self._limit.maximum = maximum

    async def acquire(self, account: AccountId) -> None:
        """Wait for a permit, which the caller must release in any case."""
        self._semaphore.resize(self._limit.value)
        await self._semaphore.acquire(account)

    def release(self) -> None:
        self._semaphore.release()
        self._semaphore.resize(self._limit.value)

    def check(self, schema: OperationSchema, *, may_leave: bool = True) -> None:
        """Raise UpstreamUnavailable if a line of the operation must not be called now.

        `may_leave` is whether the line has had no call yet: only then it leaves for a Retry-After.
        """
        self.hold_s(schema, may_leave=may_leave)
        self._check_breaker(schema)

    def is_open(self, schema: OperationSchema) -> bool:
        """Return whether the lines of the operation wait until the upstream answers again."""
        duration_s = self._breaker.duration_s(self._timing.monotonic())
        if duration_s is None or schema.breaker.failures == 0:
            return False
        if duration_s < schema.retry.give_up_after_s:
            return True
        if not self._is_given_up:
            self._is_given_up = True
            logger.error(
                "lines fail again, as %s has not answered for %.0f s", self._origin, duration_s
            )
        return False

    def hold_s(self, schema: OperationSchema, *, may_leave: bool) -> float:
        """Return for how long the upstream asked to be left alone; 0 or less if it did not.

        Raises UpstreamUnavailable instead if the line may leave, and that takes too long.
        """
        now = self._timing.monotonic()
        hold_s = self._held_until - now
        held_since = now if self._held_since is None else self._held_since
        is_given_up = now - held_since >= schema.retry.give_up_after_s
        if may_leave and hold_s > _MAX_PAUSE_S and not is_given_up:
            raise UpstreamUnavailable(
                f"{self._origin} asked to be left alone (Retry-After)",
                retry_after_s=hold_s + self._timing.jitter(),
            )
        return hold_s

    def begin_call(self, schema: OperationSchema) -> bool:
        """Return whether the call is the breaker's probe, which must be ended in any case.

        Raises UpstreamUnavailable if the call must not be made.
        """
        if not self.is_open(schema):
            return False
        self._check_breaker(schema)
        self._breaker.begin_probe()
        return True

    def end_probe(self) -> None:
        self._breaker.end_probe()

    def unavailable(self) -> UpstreamUnavailable:
        """Return the error for a line that waits until the upstream answers again."""
        now, jitter = self._timing.monotonic(), self._timing.jitter()
        duration_s = self._breaker.duration_s(now) or 0.0
        return UpstreamUnavailable(
            f"{self._origin} has not answered for {duration_s:.0f} s, last: {self._breaker.reason}",
            retry_after_s=self._breaker.retry_after_s(now, jitter=jitter),
        )

    def _check_breaker(self, schema: OperationSchema) -> None:
        if self.is_open(schema) and not self._breaker.is_probe_due(self._timing.monotonic()):
            raise self.unavailable()

    def record(
        self,
        operation: str,
        schema: OperationSchema,
        outcome: UpstreamResponse | NoResponse,
        *,
        started_at: float,
        is_probe: bool,
    ) -> None:
        """Learn from what became of a call."""
        now = self._timing.monotonic()
        if (reason := _failure(schema, outcome)) is None:
            self._record_answer(now)
        elif schema.breaker.failures:
            self._record_failure(reason, schema, now, is_probe=is_probe)
        if isinstance(outcome, NoResponse):
            if outcome.timed_out:
                self._limit.record_overload(started_at=started_at, now=now)
            return
        if outcome.status in _OVERLOAD_STATUSES:
            self._limit.record_overload(started_at=started_at, now=now)
        elif outcome.status < 500:
            is_exhausted = self._semaphore.is_exhausted
            self._limit.record(operation, started_at=started_at, now=now, is_exhausted=is_exhausted)
        self._record_hold(retry_after_s(schema.retry, outcome, self._timing), outcome, now)
        metrics.UPSTREAM_CONCURRENCY.labels(self._origin).set(self._limit.value)

    def _record_answer(self, now: float) -> None:
        duration_s = self._breaker.duration_s(now)
        self._breaker.record_answer()
        if duration_s is not None:
            self._is_given_up = False
            self._limit.restart(now=now)
            logger.warning("%s answers again, after %.0f s", self._origin, duration_s)
            metrics.UPSTREAM_BREAKER_OPEN.labels(self._origin).set(0)

    def _record_failure(
        self, reason: str, schema: OperationSchema, now: float, *, is_probe: bool
    ) -> None:
        is_opened = self._breaker.record_failure(
            reason,
            now=now,
            is_probe=is_probe,
            max_failures=schema.breaker.failures,
            max_interval_s=schema.breaker.max_probe_interval_s,
        )
        if is_opened:
            logger.error(
                "%s is not called, as %d calls in a row had no answer, last: %s",
                self._origin,
                schema.breaker.failures,
                reason,
            )
            metrics.UPSTREAM_BREAKER_OPEN.labels(self._origin).set(1)

    def _record_hold(self, hold_s: float, outcome: UpstreamResponse, now: float) -> None:
        if hold_s > 0:
            if self._held_since is None:
                self._held_since = now
                logger.info("%s asked to be left alone for %.0f s", self._origin, hold_s)
            self._held_until = max(self._held_until, now + hold_s)
        elif outcome.status < 400:
            self._held_since = None


def _failure(schema: OperationSchema, outcome: UpstreamResponse | NoResponse) -> str | None:
    """Return why the outcome is no answer; None if it is one."""
    if isinstance(outcome, NoResponse):
        return outcome.cause
    if outcome.status in schema.breaker.statuses and outcome.status not in schema.success:
        return f"status {outcome.status}"
    return None
