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
from batchd.plugins.http_operations.retry import RetryTiming, retry_delay_s
from batchd.plugins.http_operations.schema import OperationSchema

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
    """Replaced when the file changes; the semaphore is kept, so that its limit holds throughout."""

    def __init__(
        self,
        name: str,
        schema: OperationSchema,
        dependencies: Dependencies,
        semaphore: FairSemaphore,
    ) -> None:
        self.name = name
        self._schema = schema
        self._dependencies = dependencies
        self._semaphore = semaphore
        self._timeout = aiohttp.ClientTimeout(total=schema.timeout_s)
        self._headers = dict(schema.headers)
        if schema.body and "content-type" not in map(str.lower, schema.headers):
            self._headers["Content-Type"] = "application/json"

    @property
    def chunk_lines(self) -> int | None:
        return self._schema.chunk_lines

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        return validate(self._schema, request)

    async def run(self, call: OperationCall) -> OperationResult:
        """Call until the response is one that is not retried, or no attempts are left.

        Raises what the authorization of an attempt does.
        """
        issues = self.check(call.request)
        if issues:
            # The line was valid when an earlier version of the file was in effect.
            text = f"{issues[0].pointer}: {issues[0].message}"
            return self._error_result(RequestFormat(text), logs.current_trace())
        request = self._build_request(call)
        retry, timing = self._schema.retry, self._dependencies.timing
        attempt = 1
        outcome = await self._attempt(request, call)
        while (delay_s := retry_delay_s(retry, outcome, attempt, timing)) is not None:
            await timing.sleep(delay_s)
            attempt += 1
            outcome = await self._attempt(request, call)
        return self._result(outcome, call, attempt)

    def _build_request(self, call: OperationCall) -> UpstreamRequest:
        return UpstreamRequest(
            method=self._schema.method,
            url=build_url(self._schema, call.request),
            headers={**self._headers, "Idempotency-Key": call.key},
            body=_body(call.request) if self._schema.body else None,
        )

    async def _attempt(
        self, request: UpstreamRequest, call: OperationCall
    ) -> UpstreamResponse | NoResponse:
        # The permit is released between attempts, and each attempt counts against the rate.
        await self._semaphore.acquire(call.caller.account)
        try:
            if self._schema.rate_per_s is not None:
                await self._dependencies.rate.acquire(self.name, self._schema.rate_per_s)
            return await self._send(request, call)
        except NoResponse as error:
            return error
        finally:
            self._semaphore.release()

    async def _send(self, request: UpstreamRequest, call: OperationCall) -> UpstreamResponse:
        memory, max_bytes = self._dependencies.memory, self._schema.max_answer_bytes
        await memory.acquire(max_bytes)
        try:
            # Last: the waits before it, and between two attempts, can take minutes.
            await call.authorize()
            return await send(
                self._dependencies.client, request, timeout=self._timeout, max_bytes=max_bytes
            )
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
