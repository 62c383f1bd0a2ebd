"""An operation of the file: each line is one call of the customer's own HTTP API."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import msgspec

from batchd.domain.errors import BatchdError, ProcessingTimeout, QuotaViolation, RequestFormat
from batchd.domain.operations import (
    OperationCall,
    OperationRequest,
    OperationResult,
    RateLimiter,
    ValidationIssue,
    error_result,
)
from batchd.observability import logs
from batchd.plugins.http_operations.client import NoResponse, Reply, Request, send
from batchd.plugins.http_operations.fair_semaphore import FairSemaphore
from batchd.plugins.http_operations.request_builder import problems_of, url_of
from batchd.plugins.http_operations.response_body import body_of
from batchd.plugins.http_operations.retry import Pacing, delay_s
from batchd.plugins.http_operations.schema import OperationSchema

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What the operations share."""

    client: aiohttp.ClientSession
    rate: RateLimiter
    pacing: Pacing


class HttpOperation:
    """Made anew when the file changes; `places` stays, so that the bound holds meanwhile."""

    def __init__(
        self, name: str, declaration: OperationSchema, means: Dependencies, places: FairSemaphore
    ) -> None:
        self.name = name
        self._declaration = declaration
        self._means = means
        self._places = places
        self._patience = aiohttp.ClientTimeout(total=declaration.timeout_s)
        self._headers = dict(declaration.headers)
        if declaration.body and "content-type" not in map(str.lower, declaration.headers):
            self._headers["Content-Type"] = "application/json"

    @property
    def chunk_lines(self) -> int | None:
        return self._declaration.chunk_lines

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        return problems_of(self._declaration, request)

    async def run(self, call: OperationCall) -> OperationResult:
        """Call until there is an answer that is not to be retried, or no attempt is left."""
        problems = self.check(call.request)
        if problems:
            # Found valid by an older file.
            text = f"{problems[0].pointer}: {problems[0].message}"
            return error_result(RequestFormat(text), logs.current_trace())
        request = self._request(call)
        retry, pacing = self._declaration.retry, self._means.pacing
        attempt = 1
        outcome = await self._attempt(request, call)
        while (wait_s := delay_s(retry, outcome, attempt, pacing)) is not None:
            await pacing.sleep(wait_s)
            attempt += 1
            outcome = await self._attempt(request, call)
        return self._answer(outcome, call, attempt)

    def _request(self, call: OperationCall) -> Request:
        return Request(
            method=self._declaration.method,
            url=url_of(self._declaration, call.request),
            headers={**self._headers, "Idempotency-Key": call.key},
            body=msgspec.json.encode(call.request.body) if self._declaration.body else None,
        )

    async def _attempt(self, request: Request, call: OperationCall) -> Reply | NoResponse:
        # Between attempts the place is free for others, and each attempt counts against the rate.
        await self._places.take(call.caller.account)
        try:
            if self._declaration.rate_per_s is not None:
                await self._means.rate.acquire(self.name, self._declaration.rate_per_s)
            return await send(
                self._means.client,
                request,
                patience=self._patience,
                max_bytes=self._declaration.max_answer_bytes,
            )
        except NoResponse as unanswered:
            return unanswered
        finally:
            self._places.give()

    def _answer(
        self, outcome: Reply | NoResponse, call: OperationCall, attempts: int
    ) -> OperationResult:
        if isinstance(outcome, NoResponse):
            text = (
                f"No answer from the upstream of '{self.name}' "
                f"in attempt {attempts} of {self._declaration.retry.attempts}: {outcome}."
            )
            return self._failure(ProcessingTimeout(text), call, outcome.cause)
        if outcome.body is None:
            text = (
                f"The upstream of '{self.name}' answered {outcome.status}, with a body of more "
                f"than the {self._declaration.max_answer_bytes} bytes that are taken."
            )
            answer = self._failure(QuotaViolation(text), call, "too large")
            # The call was carried out: its status tells more than that of the failure.
            return OperationResult(status=outcome.status, body=answer.body, success=False)
        return OperationResult(
            status=outcome.status,
            body=body_of(outcome),
            success=outcome.status in self._declaration.success,
        )

    def _failure(self, error: BatchdError, call: OperationCall, cause: str) -> OperationResult:
        trace = logs.current_trace()
        logger.info("line %s failed, trace %s: %s (%s)", call.key, trace, error, cause)
        return error_result(error, trace)
