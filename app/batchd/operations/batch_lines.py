"""batchd's own operations as lines of a batch: the same parser and service as over HTTP."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from batchd.domain.errors import BatchdError, ProcessingTimeout, RequestFormat, help_url
from batchd.domain.operations import (
    OperationCall,
    OperationRequest,
    OperationResult,
    ValidationIssue,
    error_result,
)
from batchd.observability import logs
from batchd.operations.explanations import InvalidRequest
from batchd.operations.parsing import encode
from batchd.operations.table import AnyOperation
from batchd.services.container import Services

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ApiBatchOperation:
    """Implements `domain.operations.Operation` for a row of the table."""

    operation: AnyOperation
    services: Services
    help_base: str | None = None
    """Base of the URLs in the errors' `help`, as over HTTP."""

    @property
    def name(self) -> str:
        return self.operation.name

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        """Return the issues for which a direct call would be refused."""
        issues = []
        if self.operation.body_schema is None and request.body is not None:
            issues.append(
                ValidationIssue(
                    code=RequestFormat.name,
                    pointer="/body",
                    message="This operation takes no body.",
                )
            )
        command = self.operation.parse(request)
        if isinstance(command, BatchdError):
            issues.append(_issue(command))
        return issues

    async def run(self, call: OperationCall) -> OperationResult:
        """Return the result of a direct call. Raises only ProcessingTimeout."""
        try:
            response = await self.operation.call(self.services, call.caller, call.request)
        except ProcessingTimeout:
            raise
        except BatchdError as error:
            trace = logs.current_trace()
            logger.info("%s: %s", self.name, error.name, extra={"trace": trace})
            return error_result(error, trace, help_url=help_url(error, self.help_base))
        return OperationResult(status=self.operation.success, body=_on_one_line(encode(response)))


def _on_one_line(text: bytes) -> bytes:
    """Return JSON without line breaks, which occur in callers' own JSON but never in a string."""
    return text.replace(b"\n", b" ").replace(b"\r", b" ")


def _issue(error: BatchdError) -> ValidationIssue:
    if isinstance(error, InvalidRequest):
        return ValidationIssue(code=error.name, pointer=error.pointer, message=error.message)
    return ValidationIssue(code=error.name, pointer="", message=error.description)
