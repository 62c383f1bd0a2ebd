"""The results have one line per line of the batch file, with the result of a direct call."""

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
    """Returns the path of each line."""

    name = "echo"

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        return OperationResult(status=200, body=msgspec.json.encode(call.request.path))


@pytest.fixture
def operations() -> Sequence[OperationFactory]:
    @asynccontextmanager
    async def open_operation(_: OperationContext) -> AsyncIterator[Operation]:
        yield Echo()

    return (open_operation,)


RunWorker = Callable[[], AbstractAsyncContextManager[None]]

NOBODY = "00000000-0000-7000-8000-000000000000"


async def run(caller: ApiCaller, worker: RunWorker, lines: bytes, operation: str) -> list[Any]:
    """Run a batch with a worker, and return its results."""
    async with worker():
        batch = await caller.create(lines, operation)
        assert await caller.end(batch) == "completed"
    return await caller.download(batch)


async def create_target(caller: ApiCaller) -> str:
    """Create a batch for the lines to operate on."""
    return await caller.create(lines_of({"path": {"batch": NOBODY}}))


def mixed_file(target: str) -> tuple[bytes, list[tuple[int, str | None]]]:
    """Return a file with all kinds of valid lines, and the number and id of each."""
    lines = []
    expected: list[tuple[int, str | None]] = []
    for number in range(1, 251):
        line: dict[str, object] = {"path": {"batch": target if number % 3 else NOBODY}}
        if number % 2:
            line["id"] = f"id {number} \u2028 é"
        if number % 25 == 0:
            lines.append(["", "  ", "\t", "\r"][number // 25 % 4])
        else:
            lines.append(json.dumps(line, ensure_ascii=number % 4 == 0))
            expected.append((number, line.get("id")))  # type: ignore[arg-type]  # a string
    return "\n".join(lines[:-1]).encode(), expected


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:3000]) + gzip.compress(data[3000:])


@pytest.mark.parametrize(
    "encode",
    [
        pytest.param(lambda data: data + b"\n", id="plain"),
        pytest.param(lambda data: data, id="no final line break"),
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="byte order mark"),
        pytest.param(gzip.compress, id="gzip"),
        pytest.param(two_members, id="gzip of two members"),
    ],
)
async def test_results_have_one_line_per_line_in_order(
    caller: ApiCaller, worker: RunWorker, encode: Callable[[bytes], bytes]
) -> None:
    target = await create_target(caller)
    data, expected = mixed_file(target)
    results = await run(caller, worker, encode(data), "get_batch")
    assert [(line["line"], line.get("id")) for line in results] == expected
    assert [(line["outcome"], line["status"]) for line in results] == [
        ("succeeded", 200) if number % 3 else ("failed", 404) for number, _ in expected
    ]
    assert {tuple(sorted(set(line) - {"id"})) for line in results} == {
        ("body", "line", "outcome", "status")
    }


async def test_get_batch_describes_the_results_exactly(
    caller: ApiCaller, worker: RunWorker
) -> None:
    target = await create_target(caller)
    data, expected = mixed_file(target)
    async with worker():
        batch = await caller.create(data)
        assert await caller.end(batch) == "completed"
    body = (await caller.get(f"/batches/{batch}?expand=progress,errors,results")).body
    file = await caller.download_bytes(batch)
    failed = [number for number, _ in expected if number % 3 == 0]
    assert body["results"] == {
        "size": len(file),
        "lines": file.count(b"\n"),
        "sha256": hashlib.sha256(file).hexdigest(),
    }
    assert body["results"]["lines"] == len(expected)
    assert body["progress"] == {
        "total": len(expected),
        "succeeded": len(expected) - len(failed),
        "failed": len(failed),
        "cancelled": 0,
        "remaining": 0,
    }
    assert body["errors"] == {"404": {"count": len(failed), "lines": failed[:5]}}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n \r\n\n", id="blank lines"),
        pytest.param(b"\xef\xbb\xbf", id="byte order mark"),
        pytest.param(b"\xef\xbb\xbf\r\n", id="byte order mark and line break"),
        pytest.param(gzip.compress(b""), id="gzip"),
    ],
)
async def test_results_of_a_file_without_lines_are_empty(
    caller: ApiCaller, worker: RunWorker, data: bytes
) -> None:
    async with worker():
        batch = await caller.create(data)
        assert await caller.end(batch) == "completed"
    assert await caller.download_bytes(batch) == b""
    body = (await caller.get(f"/batches/{batch}?expand=results,progress")).body
    assert body["results"] == {
        "size": 0,
        "lines": 0,
        "sha256": hashlib.sha256(b"").hexdigest(),
    }
    assert set(body["progress"].values()) == {0}


async def test_download_is_named_like_the_batch(caller: ApiCaller, worker: RunWorker) -> None:
    async with worker():
        batch = await caller.create(b"")
        assert await caller.end(batch) == "completed"
    url = (await caller.get(f"/batches/{batch}?download=true")).body["download"]["url"]
    async with caller.session.get(url) as response:
        assert f'filename="{batch}.jsonl"' in response.headers["Content-Disposition"]


async def test_progress_does_not_decrease_when_the_batch_ends(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts move from the chunks to the batch while they are being read."""
    find_line_counts = chunks.find_line_counts

    async def find_after_the_end(connection: Connection, batch: BatchId) -> LineCounts:
        await components.dispatcher.handle(Job(Stage.RESULTS, batch))
        return await find_line_counts(connection, batch)

    batch = await caller.create(lines_of({"path": {"batch": NOBODY}}))
    for stage in (Stage.COPY, Stage.VALIDATE, Stage.CHUNK):
        await components.dispatcher.handle(Job(stage, BatchId(UUID(batch)), 0))
    monkeypatch.setattr(chunks, "find_line_counts", find_after_the_end)
    body = (await caller.get(f"/batches/{batch}?expand=progress,errors")).body
    assert body["status"] == "processed"
    assert body["progress"]["failed"] == 1
    assert body["progress"]["remaining"] == 0
    assert body["errors"] == {"404": {"count": 1, "lines": [1]}}


async def test_large_results_are_assembled_inside_the_storage(
    caller: ApiCaller, worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_sizes: list[int] = []
    append = PartsWriter.append

    async def record_size(self: PartsWriter, key: str, size: int) -> bool:
        copied = await append(self, key, size)
        copied_sizes.append(size if copied else 0)
        return copied

    monkeypatch.setattr(PartsWriter, "append", record_size)
    lines = lines_of(*({"id": str(n), "path": {"text": "x" * 100_000}} for n in range(250)))
    async with worker():
        batch = await caller.create(lines, "echo")
        assert await caller.end(batch) == "completed"
    data = await caller.download_bytes(batch)
    assert [json.loads(line)["id"] for line in data.splitlines()] == [str(n) for n in range(250)]
    body = (await caller.get(f"/batches/{batch}?expand=results")).body
    assert body["results"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert (body["results"]["size"], body["results"]["lines"]) == (len(data), 250)
    # What fills whole parts is copied; the last chunk is too small for that.
    assert copied_sizes[0] > 0
    assert copied_sizes[-1] == 0
