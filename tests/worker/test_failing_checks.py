"""An operation whose check raises ends the batch with a report, at once and not after retries."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from batchd.domain.operations import (
    Operation,
    OperationCall,
    OperationContext,
    OperationFactory,
    OperationRequest,
    OperationResult,
    ValidationIssue,
)
from tests.support.callers import ApiCaller, lines_of

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]


class Failing:
    """Its check works for nothing but lines whose path is empty."""

    name = "failing"

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        if request.path:
            raise RecursionError(request.path["why"])
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        raise NotImplementedError


@pytest.fixture
def operations() -> Sequence[OperationFactory]:
    @asynccontextmanager
    async def open_operation(_: OperationContext) -> AsyncIterator[Operation]:
        yield Failing()

    return (open_operation,)


async def test_check_that_raises_is_reported_on_its_lines_and_logged_once(
    caller: ApiCaller, worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    lines = lines_of({"id": "a"}, {"id": "b", "path": {"why": "x"}}, {"path": {"why": "y"}})
    with caplog.at_level(logging.ERROR):
        async with worker():
            batch = await caller.create(lines, "failing")
            assert await caller.end(batch) == "validation_failed"
    entries = await caller.download(batch)
    assert [(entry["line"], entry["errors"][0]["code"]) for entry in entries] == [
        (2, "general"),
        (3, "general"),
    ]
    (record,) = [record for record in caplog.records if "could not check" in record.message]
    assert record.exc_info is not None
