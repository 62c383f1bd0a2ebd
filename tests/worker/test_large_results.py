"""Results of any size neither exceed the memory of a worker nor the limit of a batch."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from batchd.bootstrap import Components, open_components
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.operations import (
    Operation,
    OperationCall,
    OperationContext,
    OperationFactory,
    OperationRequest,
    OperationResult,
    ValidationIssue,
)
from batchd.settings import MIB, Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.stepping import TO_PROCESSING, step
from tests.support.upstream import running_upstream
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.slow

LINES = 8
LINES_IN_LIMIT = 3


class LargeOperation:
    """Returns one MiB for each line."""

    name = "large"

    def __init__(self) -> None:
        self.calls: list[object] = []

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        await asyncio.sleep(0)
        self.calls.append(call.request.path["n"])
        return OperationResult(status=200, body=b'"%b"' % (b"x" * MIB))


@pytest.fixture
def large() -> LargeOperation:
    return LargeOperation()


@pytest.fixture
def operations(large: LargeOperation) -> Sequence[OperationFactory]:
    @asynccontextmanager
    async def open_operation(_: OperationContext) -> AsyncIterator[Operation]:
        yield large

    return (open_operation,)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "chunk_lines": 2,
            "line_concurrency": 1,
            "worker_memory_bytes": MIB,
            "max_results_bytes": LINES_IN_LIMIT * MIB,
        }
    )


@pytest.fixture
async def second_worker(
    settings: Settings,
    plugin_environment: Mapping[str, str],
    operations: Sequence[OperationFactory],
) -> AsyncIterator[Components]:
    async with open_components(
        settings, environment=plugin_environment, operations=operations
    ) as opened:
        yield opened


async def create_processing_batch(
    caller: ApiCaller, components: Components, lines: int = LINES
) -> str:
    batch = await caller.create(lines_of(*({"path": {"n": n}} for n in range(lines))), "large")
    await step(components, batch, *TO_PROCESSING)
    return batch


async def run_chunk(components: Components, batch: str, number: int) -> None:
    await components.dispatcher.handle(Job(Stage.CHUNK, BatchId(UUID(batch)), number))


async def test_lines_beyond_the_limit_fail_without_being_run(
    caller: ApiCaller, components: Components, second_worker: Components, large: LargeOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    for number, worker in enumerate([components, second_worker, components, second_worker]):
        await run_chunk(worker, batch, number)
    await step(components, batch, Stage.RESULTS)
    assert await caller.status(batch) == "completed"
    assert large.calls == list(range(LINES_IN_LIMIT))
    results: list[Any] = await caller.download(batch)
    assert [line["line"] for line in results] == list(range(1, LINES + 1))
    refused = LINES - LINES_IN_LIMIT
    assert [line["status"] for line in results] == [200] * LINES_IN_LIMIT + [400] * refused
    assert {line["body"]["subcode"] for line in results[LINES_IN_LIMIT:]} == {400141}
    assert "have reached 3145728 bytes" in results[-1]["body"]["description"]
    body = (await caller.get(f"/batches/{batch}?expand=errors")).body
    assert body["errors"] == {"400": {"count": refused, "lines": [4, 5, 6, 7, 8]}}


async def test_full_disk_loses_no_finished_line(
    caller: ApiCaller,
    components: Components,
    large: LargeOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    batch = await create_processing_batch(caller, components, 2)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", refuse)
        with pytest.raises(ProcessingTimeout):
            await run_chunk(components, batch, 0)
    assert large.calls == [0]
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    assert large.calls == [0, 1]
    assert [len(line["body"]) for line in await caller.download(batch)] == [MIB, MIB]


class TestMemoryOfAWorker:
    """A real worker, whose peak is measured by the kernel."""

    LINES = 40
    RESPONSE_BYTES = 4 * MIB
    BUDGET_BYTES = 32 * MIB
    OTHER_BYTES = 160 * MIB
    """Of the interpreter, and of what one result takes while it is converted."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(
            update={
                "chunk_lines": self.LINES,
                "line_concurrency": self.LINES,
                "worker_memory_bytes": self.BUDGET_BYTES,
                "max_results_bytes": 2 * self.LINES * self.RESPONSE_BYTES,
            }
        )

    @pytest.fixture
    async def plugin_environment(
        self, plugin_environment: Mapping[str, str], tmp_path: Path
    ) -> AsyncIterator[Mapping[str, str]]:
        response = b'{"text":"%b"}' % (b"x" * self.RESPONSE_BYTES)

        def respond() -> web.Response:
            return web.Response(body=response, content_type="application/json")

        async with running_upstream() as upstream:
            upstream.reply(respond)
            file = tmp_path / "operations.toml"
            file.write_text(
                '[operations.report]\nmethod = "GET"\nurl = "${OWN_URL}/{n}"\n'
                f"max_answer_bytes = {2 * self.RESPONSE_BYTES}\n"
            )
            yield {
                **plugin_environment,
                "BATCHD_OPERATIONS": str(file),
                "OWN_URL": upstream.url,
            }

    async def test_results_of_five_times_the_budget_stay_within_it(
        self, caller: ApiCaller, process_environment: Mapping[str, str]
    ) -> None:
        lines = lines_of(*({"path": {"n": n}} for n in range(self.LINES)))
        async with worker_process(process_environment) as worker:
            batch = await caller.create(lines, "report")
            assert await caller.end(batch, within_s=120) == "completed"
            status = Path(f"/proc/{worker.pid}/status").read_text()
        peak_bytes = int(status.split("VmHWM:")[1].split()[0]) * 1024
        body = (await caller.get(f"/batches/{batch}?expand=results,progress")).body
        assert body["progress"]["succeeded"] == self.LINES
        assert body["results"]["size"] > self.LINES * self.RESPONSE_BYTES
        assert peak_bytes < self.BUDGET_BYTES + self.OTHER_BYTES
