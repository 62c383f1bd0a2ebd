"""All lines are validated before any runs, and the report lists every issue of each."""

import bz2
import gzip
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.history import History

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

MAX_LINE = 200
MAX_LINES = 40
MAX_FILE = 12_000
NOBODY = "00000000-0000-7000-8000-000000000000"
VALID = {"path": {"batch": NOBODY}}
FORMAT, JSON, UTF8 = "request_format", "not_a_valid_json", "invalid_characters"
QUOTA = "quota_violation"
CANCEL = {"status": "cancel"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "max_line_bytes": MAX_LINE,
            "max_lines": MAX_LINES,
            "max_file_bytes": MAX_FILE,
            "chunk_lines": 3,
        }
    )


async def report(
    caller: ApiCaller, worker: RunWorker, data: bytes, operation: str = "get_batch"
) -> list[Any]:
    """Return the validation report of an invalid file."""
    async with worker():
        batch = await caller.create(data, operation)
        assert await caller.end(batch) == "validation_failed"
    entries = await caller.download(batch)
    assert {entry["outcome"] for entry in entries} == {"invalid"}
    assert all(issue["message"] for entry in entries for issue in entry["errors"])
    return entries


def line_issues(entries: list[Any]) -> list[tuple[int, list[tuple[str, str]]]]:
    """Return the line numbers with the codes and pointers of their issues."""
    return [
        (entry["line"], [(issue["code"], issue["pointer"]) for issue in entry["errors"]])
        for entry in entries
    ]


def line(**attributes: object) -> bytes:
    return json.dumps({**VALID, **attributes}).encode()


INVALID_LINES: Mapping[bytes, list[tuple[str, str]]] = {
    b"no json": [(JSON, "")],
    b'{"path": {}': [(JSON, "")],
    b'["path"]': [(FORMAT, "")],
    b'"path"': [(FORMAT, "")],
    b'{"id": "\xff"}': [(UTF8, "")],
    line(id="x" * MAX_LINE): [(QUOTA, "")],
    line(headers={}): [(FORMAT, "/headers")],
    line(query=[], id=7): [(FORMAT, "/query"), (FORMAT, "/id")],
    line(path="batch"): [(FORMAT, "/path")],
    line(body=None): [(FORMAT, "/body")],
    line(body={}): [(FORMAT, "/body")],  # get_batch has no body
    b"{}": [(FORMAT, "/path/batch")],
    line(path={"batch": "no UUID"}): [(FORMAT, "/path/batch")],
    line(path={"batch": 7}): [(FORMAT, "/path/batch")],
    line(path={"batch": NOBODY.replace("-", "")}): [(FORMAT, "/path/batch")],
    line(path={"batch": f"{NOBODY}\n"}): [(FORMAT, "/path/batch")],
    line(path={"batch": NOBODY, "more": 1}): [(FORMAT, "/path/more")],
    line(query={"more": 1}): [(FORMAT, "/query/more")],
    line(query={"download": "yes"}): [(FORMAT, "/query/download")],
    line(query={"download": 2}): [(FORMAT, "/query/download")],
    line(query={"download": None}): [(FORMAT, "/query/download")],
    line(query={"expand": "everything"}): [(FORMAT, "/query/expand")],
    line(query={"expand": ["progress"]}): [(FORMAT, "/query/expand")],
    line(id=""): [(FORMAT, "/id")],
    line(id="x" * 65): [(FORMAT, "/id")],
}


async def test_report_lists_every_invalid_line_with_all_issues(
    caller: ApiCaller, worker: RunWorker
) -> None:
    lines: list[bytes] = []
    expected = []
    for invalid_line, issues in INVALID_LINES.items():
        if len(lines) % 4 == 0:
            lines += [b"", line(id=f"valid {len(lines)}")]
        lines.append(invalid_line)
        expected.append((len(lines), issues))
    assert line_issues(await report(caller, worker, b"\n".join(lines))) == expected


async def test_report_contains_the_ids_of_invalid_lines(
    caller: ApiCaller, worker: RunWorker
) -> None:
    lines = [line(id="a", path={}), line(path={}), line(id="b", more=1), b'{"id": "c"']
    entries = await report(caller, worker, b"\n".join(lines))
    assert [entry.get("id") for entry in entries] == ["a", None, "b", None]
    assert set(entries[1]) == {"line", "outcome", "errors"}
    assert set(entries[0]["errors"][0]) == {"code", "pointer", "message"}


async def test_report_lists_duplicate_ids(caller: ApiCaller, worker: RunWorker) -> None:
    ids = ["a", "b", None, "a", "c", "é", None, "é", "a"]
    lines = [line(**({} if line_id is None else {"id": line_id})) for line_id in ids]
    lines.insert(5, line(id="b", path={}))
    entries = await report(caller, worker, b"\n".join(lines))
    duplicate = (FORMAT, "/id")
    assert line_issues(entries) == [
        (4, [duplicate]),
        (6, [(FORMAT, "/path/batch"), duplicate]),
        (9, [duplicate]),
        (10, [duplicate]),
    ]
    assert [entry["id"] for entry in entries] == ["a", "b", "é", "a"]


@pytest.mark.parametrize(
    ("operation", "invalid_line", "pointer"),
    [
        ("update_batch", VALID, "/body"),
        ("update_batch", {**VALID, "body": {}}, "/body/status"),
        ("update_batch", {**VALID, "body": {"status": "completed"}}, "/body/status"),
        ("update_batch", {**VALID, "body": {**CANCEL, "hash": ""}}, "/body/hash"),
        ("update_batch", {**VALID, "body": CANCEL, "query": {"a": 1}}, "/query/a"),
        ("delete_batch", {**VALID, "query": {"force": True}}, "/query/force"),
        ("delete_batch", {**VALID, "body": {}}, "/body"),
        ("invalidate_upload_url", VALID, "/path/batch"),
        ("invalidate_upload_url", {"path": {"handler": "x"}}, "/path/handler"),
    ],
)
async def test_lines_are_validated_by_their_operation(
    caller: ApiCaller,
    worker: RunWorker,
    operation: str,
    invalid_line: Mapping[str, object],
    pointer: str,
) -> None:
    entries = await report(caller, worker, lines_of(invalid_line), operation)
    assert line_issues(entries) == [(1, [(FORMAT, pointer)])]


async def test_no_line_runs_if_one_is_invalid(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation, history: History
) -> None:
    async with worker():
        running = await caller.create(numbered_lines(1), "gated")
        await gated.wait_started(1)
        lines = [
            *[{"path": {"batch": running}, "body": CANCEL}] * 8,
            {"path": {}, "body": CANCEL},
        ]
        batch = await caller.create(lines_of(*lines), "update_batch")
        assert await caller.end(batch) == "validation_failed"
        gated.release(1)
        # None of the valid lines has cancelled it.
        assert await caller.end(running) == "completed"
    assert "processing" not in await history.of(batch)
    body = (await caller.get(f"/batches/{batch}?expand=progress,errors,results")).body
    assert body["progress"]["total"] is None
    assert body["progress"]["succeeded"] == 0
    assert body["errors"] == {"request_format": {"count": 1, "lines": [9]}}
    assert body["results"] is None


# The file as a whole


async def test_file_with_the_maximum_number_of_lines_is_run(
    caller: ApiCaller, worker: RunWorker
) -> None:
    async with worker():
        batch = await caller.create(b"\n" + lines_of(*[VALID] * MAX_LINES))
        assert await caller.end(batch) == "completed"


async def test_report_ends_at_the_first_line_over_the_maximum(
    caller: ApiCaller, worker: RunWorker
) -> None:
    lines = [line(id=7), *[line()] * MAX_LINES, line(id=7)]
    entries = await report(caller, worker, b"\n".join(lines))
    assert line_issues(entries) == [(1, [(FORMAT, "/id")]), (MAX_LINES + 1, [(QUOTA, "")])]


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"\n" * (MAX_LINES + 5), MAX_LINES + 1),
        (line() + b"\n" * (MAX_LINES + 5) + line(), MAX_LINES + 2),
        (b"\n" + line() + b"\n" * MAX_LINES + b"\r\n" + line(), MAX_LINES + 2),
    ],
    ids=["nothing else", "a line before", "lines between"],
)
async def test_report_names_the_first_blank_line_over_the_maximum(
    caller: ApiCaller, worker: RunWorker, data: bytes, number: int
) -> None:
    assert line_issues(await report(caller, worker, data)) == [(number, [(QUOTA, "")])]


async def test_line_of_the_maximum_length_is_valid_and_a_longer_one_is_not(
    caller: ApiCaller, worker: RunWorker
) -> None:
    longest = line().ljust(MAX_LINE)
    entries = await report(caller, worker, b"\n".join([longest, longest + b" ", b" " * 999]))
    assert line_issues(entries) == [(2, [(QUOTA, "")]), (3, [(QUOTA, "")])]


async def test_file_too_large_after_decompression_is_rejected(
    caller: ApiCaller, worker: RunWorker
) -> None:
    compressed = gzip.compress(line() + b"\n" + b" " * MAX_FILE)
    assert len(compressed) < 200
    entries = await report(caller, worker, compressed)
    assert line_issues(entries)[-1][1] == [(QUOTA, "")]


GZIP = gzip.compress(lines_of({"id": "a", **VALID}, {"id": "a", **VALID}))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(GZIP[:-4], id="truncated"),
        pytest.param(GZIP[:-8] + bytes(8), id="wrong checksum"),
        pytest.param(GZIP + b"more", id="garbage at the end"),
        pytest.param(GZIP[:2], id="magic number only"),
    ],
)
async def test_damaged_gzip_is_rejected(caller: ApiCaller, worker: RunWorker, data: bytes) -> None:
    *_, last_entry = await report(caller, worker, data)
    assert last_entry["errors"][-1]["code"] == FORMAT
    assert "gzip" in last_entry["errors"][-1]["message"]


TEXT = "\n".join([line(id=str(number)).decode() for number in range(30)])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        pytest.param(TEXT.encode("utf-16-le"), "UTF-16", id="UTF-16"),
        pytest.param(bz2.compress(TEXT.encode()), "bzip2", id="bzip2"),
        pytest.param(gzip.compress(TEXT.encode("utf-16")), "UTF-16", id="UTF-16 in gzip"),
        pytest.param(json.dumps([VALID] * 9, indent=1).encode(), "JSON array", id="JSON array"),
    ],
)
async def test_file_of_another_format_is_one_entry_that_names_it(
    caller: ApiCaller, worker: RunWorker, data: bytes, name: str
) -> None:
    (entry,) = await report(caller, worker, data)
    (issue,) = entry["errors"]
    assert entry["line"] == 1
    assert name in issue["message"]
    assert "UTF-8 JSON Lines" in issue["message"]
