"""Every bad line is found before any line runs, and the report names each one and why."""

import gzip
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.gated_operation import Gated, numbered_lines
from tests.support.history import History

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

MAX_LINE = 200
MAX_LINES = 40
MAX_FILE = 12_000
NOBODY = "00000000-0000-7000-8000-000000000000"
GOOD = {"path": {"batch": NOBODY}}
FORM, JSON, UTF8 = "request_format", "not_a_valid_json", "invalid_characters"
QUOTA = "quota_violation"


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
    """Return the report of a file that is not valid."""
    async with worker():
        batch = await caller.create(data, operation)
        assert await caller.end(batch) == "validation_failed"
    entries = await caller.download(batch)
    assert {entry["outcome"] for entry in entries} == {"invalid"}
    assert all(problem["message"] for entry in entries for problem in entry["errors"])
    return entries


def found(entries: list[Any]) -> list[tuple[int, list[tuple[str, str]]]]:
    """Return the line numbers, with the code and pointer of all that is wrong."""
    return [
        (entry["line"], [(error["code"], error["pointer"]) for error in entry["errors"]])
        for entry in entries
    ]


def line(**parts: object) -> bytes:
    return json.dumps({**GOOD, **parts}).encode()


BAD_LINES: Mapping[bytes, list[tuple[str, str]]] = {
    b"no json": [(JSON, "")],
    b'{"path": {}': [(JSON, "")],
    b'["path"]': [(FORM, "")],
    b'"path"': [(FORM, "")],
    b'{"id": "\xff"}': [(UTF8, "")],
    line(id="x" * MAX_LINE): [(QUOTA, "")],
    line(headers={}): [(FORM, "/headers")],
    line(query=[], id=7): [(FORM, "/query"), (FORM, "/id")],
    line(path="batch"): [(FORM, "/path")],
    line(body=None): [(FORM, "/body")],
    line(body={}): [(FORM, "/body")],  # get_batch takes none
    b"{}": [(FORM, "/path/batch")],
    line(path={"batch": "no UUID"}): [(FORM, "/path/batch")],
    line(path={"batch": 7}): [(FORM, "/path/batch")],
    line(path={"batch": NOBODY.replace("-", "")}): [(FORM, "/path/batch")],
    line(path={"batch": f"{NOBODY}\n"}): [(FORM, "/path/batch")],
    line(path={"batch": NOBODY, "more": 1}): [(FORM, "/path/more")],
    line(query={"more": 1}): [(FORM, "/query/more")],
    line(query={"download": "yes"}): [(FORM, "/query/download")],
    line(query={"download": 2}): [(FORM, "/query/download")],
    line(query={"download": None}): [(FORM, "/query/download")],
    line(query={"expand": "everything"}): [(FORM, "/query/expand")],
    line(query={"expand": ["progress"]}): [(FORM, "/query/expand")],
    line(id=""): [(FORM, "/id")],
    line(id="x" * 65): [(FORM, "/id")],
}


async def test_every_bad_line_is_named_with_its_number_and_all_that_is_wrong(
    caller: ApiCaller, worker: RunWorker
) -> None:
    written: list[bytes] = []
    expected = []
    for bad, problems in BAD_LINES.items():
        if len(written) % 4 == 0:
            written += [b"", line(id=f"good {len(written)}")]
        written.append(bad)
        expected.append((len(written), problems))
    assert found(await report(caller, worker, b"\n".join(written))) == expected


async def test_bad_line_is_named_by_its_id_where_it_has_one(
    caller: ApiCaller, worker: RunWorker
) -> None:
    lines = [line(id="a", path={}), line(path={}), line(id="b", more=1), b'{"id": "c"']
    entries = await report(caller, worker, b"\n".join(lines))
    assert [entry.get("id") for entry in entries] == ["a", None, "b", None]
    assert set(entries[1]) == {"line", "outcome", "errors"}
    assert set(entries[0]["errors"][0]) == {"code", "pointer", "message"}


async def test_ids_used_twice_are_named_wherever_they_are(
    caller: ApiCaller, worker: RunWorker
) -> None:
    ids = ["a", "b", None, "a", "c", "é", None, "é", "a"]
    lines = [line(**({} if line_id is None else {"id": line_id})) for line_id in ids]
    lines.insert(5, line(id="b", path={}))
    entries = await report(caller, worker, b"\n".join(lines))
    twice = (FORM, "/id")
    assert found(entries) == [
        (4, [twice]),
        (6, [(FORM, "/path/batch"), twice]),
        (9, [twice]),
        (10, [twice]),
    ]
    assert [entry["id"] for entry in entries] == ["a", "b", "é", "a"]


async def test_lines_have_the_form_that_their_operation_asks_for(
    caller: ApiCaller, worker: RunWorker
) -> None:
    cancel = {"status": "cancel"}
    calls: list[tuple[str, Mapping[str, object], str]] = [
        ("update_batch", GOOD, "/body"),
        ("update_batch", {**GOOD, "body": {}}, "/body/status"),
        ("update_batch", {**GOOD, "body": {"status": "completed"}}, "/body/status"),
        ("update_batch", {**GOOD, "body": {**cancel, "hash": ""}}, "/body/hash"),
        ("update_batch", {**GOOD, "body": cancel, "query": {"a": 1}}, "/query/a"),
        ("delete_batch", {**GOOD, "query": {"force": True}}, "/query/force"),
        ("delete_batch", {**GOOD, "body": {}}, "/body"),
        ("invalidate_upload_url", GOOD, "/path/batch"),
        ("invalidate_upload_url", {"path": {"handler": "x"}}, "/path/handler"),
    ]
    async with worker():
        made = [await caller.create(lines_of(line), name) for name, line, _ in calls]
        for batch, (_, _, pointer) in zip(made, calls, strict=True):
            assert await caller.end(batch) == "validation_failed"
            assert found(await caller.download(batch)) == [(1, [(FORM, pointer)])]


async def test_one_bad_line_keeps_all_others_from_being_run(
    caller: ApiCaller, worker: RunWorker, gated: Gated, history: History
) -> None:
    cancel = {"body": {"status": "cancel"}}
    async with worker():
        running = await caller.create(numbered_lines(1), "gated")
        await gated.until_begun(1)
        lines = [{"path": {"batch": running}, **cancel}] * 8 + [{"path": {}, **cancel}]
        batch = await caller.create(lines_of(*lines), "update_batch")
        assert await caller.end(batch) == "validation_failed"
        gated.let(1)
        # Not one of the good lines has cancelled it.
        assert await caller.end(running) == "completed"
    assert "processing" not in await history.of(batch)
    shown = (await caller.get(f"/batches/{batch}?expand=progress,errors,results")).body
    assert shown["progress"]["total"] is None
    assert shown["progress"]["succeeded"] == 0
    assert (shown["errors"], shown["results"]) == ({}, None)


# The file as a whole


async def test_file_with_as_many_lines_as_are_taken_is_run(
    caller: ApiCaller, worker: RunWorker
) -> None:
    async with worker():
        batch = await caller.create(b"\n" + lines_of(*[GOOD] * MAX_LINES))
        assert await caller.end(batch) == "completed"


async def test_file_with_too_many_lines_is_refused_at_the_first_of_them(
    caller: ApiCaller, worker: RunWorker
) -> None:
    lines = [line(id=7), *[line()] * MAX_LINES, line(id=7)]
    entries = await report(caller, worker, b"\n".join(lines))
    assert found(entries) == [(1, [(FORM, "/id")]), (MAX_LINES + 1, [(QUOTA, "")])]


async def test_line_of_the_permitted_length_is_taken_and_a_longer_one_is_not(
    caller: ApiCaller, worker: RunWorker
) -> None:
    longest = line().ljust(MAX_LINE)
    entries = await report(caller, worker, b"\n".join([longest, longest + b" ", b" " * 999]))
    assert found(entries) == [(2, [(QUOTA, "")]), (3, [(QUOTA, "")])]


async def test_file_too_large_when_unpacked_is_refused(
    caller: ApiCaller, worker: RunWorker
) -> None:
    packed = gzip.compress(line() + b"\n" + b" " * MAX_FILE)
    assert len(packed) < 200
    entries = await report(caller, worker, packed)
    assert found(entries)[-1][1] == [(QUOTA, "")]


async def test_damaged_gzip_is_refused(caller: ApiCaller, worker: RunWorker) -> None:
    packed = gzip.compress(lines_of({"id": "a", **GOOD}, {"id": "a", **GOOD}))
    damaged = {
        "truncated": packed[:-4],
        "wrong checksum": packed[:-8] + bytes(8),
        "garbage after it": packed + b"more",
        "nothing but its beginning": packed[:2],
    }
    async with worker():
        made = {what: await caller.create(data) for what, data in damaged.items()}
        for what, batch in made.items():
            assert await caller.end(batch) == "validation_failed", what
            *_, last = await caller.download(batch)
            assert last["errors"][-1]["code"] == FORM
            assert "gzip" in last["errors"][-1]["message"]
