"""An operation defined in the file: each line is one call of the company's own HTTP API."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from batchd.domain.errors import (
    BatchdError,
    ProcessingTimeout,
    QuotaViolation,
    RequestFormat,
    help_url,
)
from batchd.domain.operations import (
    HTTP_STATUSES,
    MemoryBudget,
    OperationCall,
    OperationRequest,
    OperationResult,
    RateLimiter,
    ValidationIssue,
    error_result,
)
from batchd.observability import logs
from batchd.plugins.http_operations.client import (
    NoResponse,
    UpstreamRequest,
    UpstreamResponse,
    send,
)
from batchd.plugins.http_operations.fair_semaphore import FairSemaphore
from batchd.plugins.http_operations.request_builder import build_url, validate
from batchd.plugins.http_operations.response_body import encode_body
from batchd.plugins.http_operations.retry import (
    RetryTiming,
    may_be_repeated,
    retry_delay_s,
)
from batchd.plugins.http_operations.schema import OperationSchema
from batchd.plugins.http_operations.upstream import Upstream

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What the operations share."""

    client: aiohttp.ClientSession
    rate: RateLimiter
    memory: MemoryBudget
    timing: RetryTiming
    help_base: str | None = None


class HttpOperation:
    """Replaced when the file changes; the semaphore and the upstream are kept, with their state."""

    def __init__(
        self,
        name: str,
        schema: OperationSchema,
        dependencies: Dependencies,
        semaphore: FairSemaphore,
        upstream: Upstream,
    ) -> None:
        self.name = name
        self._schema = schema
        self._dependencies = dependencies
        self._semaphore = semaphore
        self._upstream = upstream
        self._timeout = aiohttp.ClientTimeout(total=schema.timeout_s)
        self._headers = dict(schema.headers)
        if schema.body and "content-type" not in map(str.lower, schema.headers):
            self._headers["Content-Type"] = "application/json"

    @property
    def chunk_lines(self) -> int | None:
        return self._schema.chunk_lines

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        return validate(self._schema, request)

    def check_upstream(self) -> None:
        self._upstream.check(self._schema)

    async def run(self, call: OperationCall) -> OperationResult:
        """Call until the response is one that is not retried, or no attempts are left.

        Raises UpstreamUnavailable, and what the authorization of an attempt does.
        """
        issues = self.check(call.request)
        if issues:
            # The line was valid when an earlier version of the file was in effect.
            text = f"{issues[0].pointer}: {issues[0].message}"
            return self._error_result(RequestFormat(text), logs.current_trace())
        request = self._build_request(call)
        timing = self._dependencies.timing
        attempt = 1
        outcome = await self._attempt(request, call, is_first=True)
        while (delay_s := self._delay_s(outcome, attempt)) is not None:
            await timing.pause(call, delay_s)
            attempt += 1
            outcome = await self._attempt(request, call, is_first=False)
        return self._result(outcome, call, attempt)

    def _delay_s(self, outcome: UpstreamResponse | NoResponse, attempt: int) -> float | None:
        """Return the delay before the next attempt; None if there is none.

        Raises UpstreamUnavailable if the line may wait until the upstream answers again.
        """
        retry, timing = self._schema.retry, self._dependencies.timing
        if self._upstream.is_open(self._schema) and may_be_repeated(retry, outcome):
            raise self._upstream.unavailable()
        return retry_delay_s(retry, outcome, attempt, timing)

    def _build_request(self, call: OperationCall) -> UpstreamRequest:
        return UpstreamRequest(
            method=self._schema.method,
            url=build_url(self._schema, call.request),
            headers={**self._headers, "Idempotency-Key": call.key},
            body=_body(call.request) if self._schema.body else None,
        )

    async def _attempt(
        self, request: UpstreamRequest, call: OperationCall, *, is_first: bool
    ) -> UpstreamResponse | NoResponse:
        # The permits are released between attempts, and each attempt counts against the rate.
        account = call.caller.account
        self._upstream.check(self._schema, may_leave=is_first)
        await self._semaphore.acquire(account)
        try:
            if not self._schema.adaptive_concurrency:
                return await self._call(request, call, is_first=is_first)
            await self._upstream.acquire(account)
            try:
                return await self._call(request, call, is_first=is_first)
            finally:
                self._upstream.release()
        finally:
            self._semaphore.release()

    async def _call(
        self, request: UpstreamRequest, call: OperationCall, *, is_first: bool
    ) -> UpstreamResponse | NoResponse:
        schema, upstream, dependencies = self._schema, self._upstream, self._dependencies
        while (hold_s := upstream.hold_s(schema, may_leave=is_first)) > 0:
            await dependencies.timing.pause(call, hold_s)
        is_probe = upstream.begin_call(schema)
        try:
            if schema.rate_per_s is not None:
                await dependencies.rate.acquire(self.name, schema.rate_per_s)
            outcome, started_at = await self._send(request, call)
            upstream.record(self.name, schema, outcome, started_at=started_at, is_probe=is_probe)
            return outcome
        finally:
            if is_probe:
                upstream.end_probe()

    async def _send(
        self, request: UpstreamRequest, call: OperationCall
    ) -> tuple[UpstreamResponse | NoResponse, float]:
        """Return the outcome, and when the call was started."""
        memory, max_bytes = self._dependencies.memory, self._schema.max_answer_bytes
        await memory.acquire(max_bytes)
        try:
            # Last: the waits before it, and between two attempts, can take minutes.
            await call.authorize()
            started_at = self._dependencies.timing.monotonic()
            try:
                response = await send(
                    self._dependencies.client, request, timeout=self._timeout, max_bytes=max_bytes
                )
            except NoResponse as error:
                return error, started_at
            return response, started_at
        finally:
            # The body becomes a result line before another call can use its memory.
            memory.release(max_bytes)

    def _result(
        self, outcome: UpstreamResponse | NoResponse, call: OperationCall, attempts: int
    ) -> OperationResult:
        if isinstance(outcome, NoResponse):
            text = (
                f"No response from the upstream of '{self.name}' "
                f"in attempt {attempts} of {self._schema.retry.attempts}: {outcome}."
            )
            return self._failure(ProcessingTimeout(text), call, outcome.cause)
        if outcome.status not in HTTP_STATUSES:
            # It counts as one of 5xx (RFC 9110, section 15).
            text = (
                f"The upstream of '{self.name}' responded with status {outcome.status}, "
                "which is not an HTTP status."
            )
            return self._failure(ProcessingTimeout(text), call, "invalid status")
        if outcome.body is None:
            text = (
                f"The upstream of '{self.name}' responded with status {outcome.status} and a body "
                f"larger than the limit of {self._schema.max_answer_bytes} bytes."
            )
            failure = self._failure(QuotaViolation(text), call, "too large")
            # The upstream has processed the call: its status says more than that of the failure.
            return OperationResult(status=outcome.status, body=failure.body, success=False)
        return OperationResult(
            status=outcome.status,
            body=encode_body(outcome),
            success=outcome.status in self._schema.success,
        )

    def _failure(self, error: BatchdError, call: OperationCall, cause: str) -> OperationResult:
        trace = logs.current_trace()
        logger.info("line %s failed, trace %s: %s (%s)", call.key, trace, error, cause)
        return self._error_result(error, trace)

    def _error_result(self, error: BatchdError, trace: str) -> OperationResult:
        return error_result(error, trace, help_url=help_url(error, self._dependencies.help_base))


def _body(request: OperationRequest) -> bytes | None:
    """Return the body as the line has it, byte for byte."""
    return request.body if isinstance(request.body, bytes) else None
