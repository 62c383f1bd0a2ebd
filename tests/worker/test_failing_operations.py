"""An exception of an operation is reported on its line, immediately and without retries."""

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
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]


HELP = "https://docs.example/errors#"


class Failing:
    """Its check works for nothing but lines whose path is empty, and its run for none."""

    name = "failing"

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        if request.path:
            raise RecursionError(request.path["why"])
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        raise NotImplementedError


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"help_url": HELP})


@pytest.fixture
def operations() -> Sequence[OperationFactory]:
    @asynccontextmanager
    async def open_operation(_: OperationContext) -> AsyncIterator[Operation]:
        yield Failing()

    return (open_operation,)


async def test_run_that_raises_is_the_result_of_its_line(
    caller: ApiCaller, worker: RunWorker
) -> None:
    async with worker():
        batch = await caller.create(lines_of({"id": "a"}), "failing")
        assert await caller.end(batch) == "completed"
    (line,) = await caller.download(batch)
    assert (line["status"], line["body"]["subcode"]) == (500, 500000)
    assert line["body"]["help"] == f"{HELP}general"


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
    assert entries[0]["errors"][0]["help"] == f"{HELP}general"
    (record,) = [record for record in caplog.records if "could not check" in record.message]
    assert record.exc_info is not None
