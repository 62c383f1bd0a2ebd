"""batchd's own operations, to be run in batches."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from batchd.domain.operations import (
    Api,
    Operation,
    OperationCall,
    OperationContext,
    OperationFactory,
    OperationRequest,
    OperationResult,
    ValidationIssue,
)


@dataclass(frozen=True, slots=True)
class ApiOperation:
    """Does for each line what the endpoint of that name does for each call."""

    name: str
    api: Api

    def check(self, parts: OperationRequest) -> Sequence[ValidationIssue]:
        return self.api.check(self.name, parts)

    async def run(self, call: OperationCall) -> OperationResult:
        return await self.api.call(self.name, call.caller, call.parts)


def _factory(name: str) -> OperationFactory:
    @asynccontextmanager
    async def open_operation(context: OperationContext) -> AsyncIterator[Operation]:
        yield ApiOperation(name, context.api)

    return open_operation


get_batch = _factory("get_batch")
update_batch = _factory("update_batch")
delete_batch = _factory("delete_batch")
invalidate_upload_url = _factory("invalidate_upload_url")
