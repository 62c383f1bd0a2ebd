"""The operation that does nothing, for whoever measures what a batch costs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from batchd.domain.operations import (
    Operation,
    OperationCall,
    OperationContext,
    OperationRequest,
    OperationResult,
    ValidationIssue,
)

_DONE = OperationResult(status=200, body=b"{}")


class NoOp:
    """Takes any line, and succeeds."""

    name = "no_op"

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:  # noqa: ARG002  # any request is valid
        return ()

    async def run(self, call: OperationCall) -> OperationResult:  # noqa: ARG002  # it does nothing
        return _DONE


@asynccontextmanager
async def no_op(_: OperationContext) -> AsyncIterator[Operation]:
    yield NoOp()
