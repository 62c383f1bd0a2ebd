"""The results have one line for each line of the batch file, and say what a direct call would."""

import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import pytest

from batchd.bootstrap import Components
from batchd.db import chunks
from batchd.db.connection import Connection
from batchd.domain.batches import LineCounts
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
from batchd.plugins.s3.multipart import PartsWriter
from tests.support.callers import ApiCaller, lines_of

pytestmark = pytest.mark.slow


class Echo:
    """Answers each line with its path."""

    name = "echo"

    def check(self, parts: OperationRequest) -> Sequence[ValidationIssue]:
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        return OperationResult(status=200, body=msgspec.json.encode(call.request.path))


@pytest.fixture
def operations() -> Sequence[OperationFactory]:
    @asynccontextmanager
    async def opened(_: OperationContext) -> AsyncIterator[Operation]:
        yield Echo()

    return (opened,)


RunWorker = Callable[[], AbstractAsyncContextManager[None]]

NOBODY = "00000000-0000-7000-8000-000000000000"


async def run(caller: ApiCaller, worker: RunWorker, lines: bytes, operation: str) -> list[Any]:
    """Return the results of a batch that a worker runs from beginning to end."""
    async with worker():
        batch = await caller.create(lines, operation)
        assert await caller.end(batch) == "completed"
    return await caller.download(batch)


async def target(caller: ApiCaller) -> str:
    """Make a batch to be operated on, which no worker has seen yet."""
    return await caller.create(lines_of({"path": {"batch": NOBODY}}))


def mixed_file(found: str) -> tuple[bytes, list[tuple[int, str | None]]]:
    """Return lines of all kinds that can be run, and the number and id of each."""
    written = []
    expected: list[tuple[int, str | None]] = []
    for number in range(1, 251):
        line: dict[str, object] = {"path": {"batch": found if number % 3 else NOBODY}}
        if number % 2:
            line["id"] = f"id {number} \u2028 é"
        if number % 25 == 0:
            written.append(["", "  ", "\t", "\r"][number // 25 % 4])
        else:
            written.append(json.dumps(line, ensure_ascii=number % 4 == 0))
            expected.append((number, line.get("id")))  # type: ignore[arg-type]  # a string
    return "\n".join(written[:-1]).encode(), expected


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:3000]) + gzip.compress(data[3000:])


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(lambda data: data + b"\n", id="plain"),
        pytest.param(lambda data: data, id="no break at the end"),
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="byte order mark"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(two_members, id="gzip of two members"),
    ],
)
async def test_there_is_one_line_for_each_line_in_order(
    caller: ApiCaller, worker: RunWorker, packed: Callable[[bytes], bytes]
) -> None:
    found = await target(caller)
    data, expected = mixed_file(found)
    results = await run(caller, worker, packed(data), "get_batch")
    assert [(line["line"], line.get("id")) for line in results] == expected
    for line in results:
        number = line["line"]
        assert line["outcome"] == ("succeeded" if number % 3 else "failed")
        assert line["status"] == (200 if number % 3 else 404)
        assert set(line) - {"id"} == {"line", "outcome", "status", "body"}


async def test_what_get_batch_tells_of_results_is_exact(
    caller: ApiCaller, worker: RunWorker
) -> None:
    found = await target(caller)
    data, expected = mixed_file(found)
    wanted = "?expand=progress,errors,results"
    async with worker():
        batch = await caller.create(data)
        assert await caller.end(batch) == "completed"
    shown = (await caller.get(f"/batches/{batch}{wanted}")).body
    file = await caller.download_bytes(batch)
    failed = [number for number, _ in expected if number % 3 == 0]
    assert shown["results"] == {
        "size": len(file),
        "lines": file.count(b"\n"),
        "sha256": hashlib.sha256(file).hexdigest(),
    }
    assert shown["results"]["lines"] == len(expected)
    assert shown["progress"] == {
        "total": len(expected),
        "succeeded": len(expected) - len(failed),
        "failed": len(failed),
        "cancelled": 0,
        "remaining": 0,
    }
    assert shown["errors"] == {"404": {"count": len(failed), "lines": failed[:5]}}


async def test_file_without_lines_has_results_without_lines(
    caller: ApiCaller, worker: RunWorker
) -> None:
    nothing = {"size": 0, "lines": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    files = [b"", b"\n \r\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", gzip.compress(b"")]
    async with worker():
        for batch in [await caller.create(data) for data in files]:
            assert await caller.end(batch) == "completed"
            assert await caller.download_bytes(batch) == b""
            shown = (await caller.get(f"/batches/{batch}?expand=results,progress")).body
            assert shown["results"] == nothing
            assert set(shown["progress"].values()) == {0}


async def test_download_has_the_name_of_the_batch(caller: ApiCaller, worker: RunWorker) -> None:
    async with worker():
        batch = await caller.create(b"")
        assert await caller.end(batch) == "completed"
    url = (await caller.get(f"/batches/{batch}?download=true")).body["download"]["url"]
    async with caller.session.get(url) as response:
        assert f'filename="{batch}.jsonl"' in response.headers["Content-Disposition"]


async def test_progress_does_not_go_back_while_the_batch_comes_to_its_end(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts move from the chunks to the batch in the very moment in which they are read."""
    find_line_counts = chunks.find_line_counts

    async def find_after_the_end(connection: Connection, batch: BatchId) -> LineCounts:
        await components.dispatcher.handle(Job(Stage.RESULTS, batch))
        return await find_line_counts(connection, batch)

    batch = await caller.create(lines_of({"path": {"batch": NOBODY}}))
    for stage in (Stage.COPY, Stage.VALIDATE, Stage.CHUNK):
        await components.dispatcher.handle(Job(stage, BatchId(UUID(batch)), 0))
    monkeypatch.setattr(chunks, "find_line_counts", find_after_the_end)
    shown = (await caller.get(f"/batches/{batch}?expand=progress,errors")).body
    assert shown["status"] == "processed"
    assert shown["progress"]["failed"] == 1
    assert shown["progress"]["remaining"] == 0
    assert shown["errors"] == {"404": {"count": 1, "lines": [1]}}


async def test_large_results_are_put_together_inside_the_storage(
    caller: ApiCaller, worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    append = PartsWriter.append

    async def note(self: PartsWriter, key: str, size: int) -> bool:
        done = await append(self, key, size)
        copied.append(size if done else 0)
        return done

    monkeypatch.setattr(PartsWriter, "append", note)
    lines = lines_of(*({"id": str(n), "path": {"text": "x" * 100_000}} for n in range(250)))
    async with worker():
        batch = await caller.create(lines, "echo")
        assert await caller.end(batch) == "completed"
    data = await caller.download_bytes(batch)
    assert [json.loads(line)["id"] for line in data.splitlines()] == [str(n) for n in range(250)]
    shown = (await caller.get(f"/batches/{batch}?expand=results")).body["results"]
    assert shown["sha256"] == hashlib.sha256(data).hexdigest()
    assert (shown["size"], shown["lines"]) == (len(data), 250)
    # Chunks of 8 MB are large enough, the last one of one line is not.
    assert [size > 0 for size in copied] == [True, True, True, False]
