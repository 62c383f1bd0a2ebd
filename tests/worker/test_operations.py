"""The built-in operations on real targets: a line and a direct call answer the same."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import pytest

from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.gated_operation import Gated, numbered_lines

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

NOBODY = "00000000-0000-7000-8000-000000000000"
TARGET = lines_of({"path": {"batch": NOBODY}})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Run the lines of a chunk one after the other, so that their order is known."""
    return settings.model_copy(update={"line_concurrency": 1})


def without_trace(body: Any) -> Any:
    """Leave out what is unique to each failure."""
    return {name: value for name, value in body.items() if name != "trace"}


async def run(caller: ApiCaller, worker: RunWorker, lines: bytes, operation: str) -> list[Any]:
    """Return the results of a batch that a worker runs from beginning to end."""
    async with worker():
        batch = await caller.create(lines, operation)
        assert await caller.end(batch) == "completed"
    return await caller.download(batch)


async def target(caller: ApiCaller) -> str:
    """Make a batch to be operated on, which no worker has seen yet."""
    return await caller.create(TARGET)


def same(line: Mapping[str, Any], reply: Reply) -> bool:
    outcome = "succeeded" if reply.status < 400 else "failed"
    return (line["outcome"], line["status"]) == (outcome, reply.status) and without_trace(
        line["body"]
    ) == without_trace(reply.body)


async def test_get_batch_lines_answer_as_direct_calls(caller: ApiCaller, worker: RunWorker) -> None:
    async with worker():
        ended = await caller.create(
            TARGET, hash=hashlib.sha256(TARGET).hexdigest(), batch_dict={"a": [1]}
        )
        assert await caller.end(ended) == "completed"
    lines: list[dict[str, dict[str, object]]] = [
        {"path": {"batch": ended}},
        {"path": {"batch": ended.upper()}, "query": {"download": False}},
        {"path": {"batch": ended}, "query": {"expand": "operation,batch_dict,progress,results"}},
        {"path": {"batch": ended}, "query": {"expand": "errors", "download": "0"}},
        {"path": {"batch": NOBODY}, "query": {"download": "True"}},
    ]
    queries = ["", "", "?expand=operation,batch_dict,progress,results", "?expand=errors", ""]
    results = await run(caller, worker, lines_of(*lines), "get_batch")
    for line, call, query in zip(results, lines, queries, strict=True):
        assert same(line, await caller.get(f"/batches/{call['path']['batch']}{query}"))
    assert [line["status"] for line in results] == [200, 200, 200, 200, 404]


async def test_get_batch_lines_give_urls_that_work(caller: ApiCaller, worker: RunWorker) -> None:
    async with worker():
        ended = await target(caller)
        assert await caller.end(ended) == "completed"
    lines = lines_of(
        *({"path": {"batch": ended}, "query": {"download": yes}} for yes in (True, "true", "1"))
    )
    for line in await run(caller, worker, lines, "get_batch"):
        assert set(line["body"]["download"]) == {"validity_ts", "url"}
        async with caller.session.get(line["body"]["download"]["url"]) as response:
            assert await response.read() == await caller.download_bytes(ended)


async def test_batch_of_another_account_does_not_exist_for_a_line(
    caller: ApiCaller, worker: RunWorker, make_caller: MakeCaller
) -> None:
    theirs = await target(await make_caller())
    (line,) = await run(caller, worker, lines_of({"path": {"batch": theirs}}), "get_batch")
    assert same(line, await caller.get(f"/batches/{theirs}"))
    assert line["status"] == 404


async def test_update_batch_lines_cancel_as_direct_calls(
    caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    cancel = {"status": "cancel"}
    async with worker():
        running = [await caller.create(numbered_lines(1), "gated") for _ in range(2)]
        await gated.until_begun(2)
        before = (await caller.get(f"/batches/{running[0]}")).body
        direct = await caller.call("PATCH", f"/batches/{running[1]}", json=cancel)
        lines = lines_of(
            {"path": {"batch": running[0]}, "body": cancel},
            {"path": {"batch": running[0]}, "body": cancel},
            {"path": {"batch": NOBODY}, "body": cancel},
        )
        batch = await caller.create(lines, "update_batch")
        assert await caller.end(batch) == "completed"
        assert [await caller.end(one) for one in running] == ["cancelled", "cancelled"]
        done, again, unknown = await caller.download(batch)
    assert (done["status"], done["body"]) == (
        direct.status,
        {**before, "status": "cancel", "updated_ts": done["body"]["updated_ts"]},
    )
    assert set(direct.body) == set(done["body"])
    reply = await caller.call("PATCH", f"/batches/{running[0]}", json=cancel)
    assert (again["status"], again["body"]["subcode"]) == (reply.status, reply.body["subcode"])
    assert again["body"]["subcode"] == 400358
    assert same(unknown, await caller.call("PATCH", f"/batches/{NOBODY}", json=cancel))


async def test_batch_that_is_not_at_an_end_is_not_deleted_by_a_line(
    caller: ApiCaller, worker: RunWorker, gated: Gated
) -> None:
    async with worker():
        running = await caller.create(numbered_lines(1), "gated")
        await gated.until_begun(1)
        batch = await caller.create(lines_of({"path": {"batch": running}}), "delete_batch")
        assert await caller.end(batch) == "completed"
        (line,) = await caller.download(batch)
        assert same(line, await caller.call("DELETE", f"/batches/{running}"))
        assert line["body"]["subcode"] == 400592
        gated.let(1)
        assert await caller.end(running) == "completed"


async def test_delete_batch_lines_delete_as_direct_calls(
    caller: ApiCaller, worker: RunWorker
) -> None:
    async with worker():
        ended = await target(caller)
        assert await caller.end(ended) == "completed"
        before = (await caller.get(f"/batches/{ended}")).body
        batch = await caller.create(
            lines_of({"path": {"batch": ended}}, {"path": {"batch": NOBODY}}), "delete_batch"
        )
        assert await caller.end(batch) == "completed"
        deleted, unknown = await caller.download(batch)
        assert deleted["status"] == 200
        assert deleted["body"] == {
            **before,
            "status": "deleting",
            "updated_ts": deleted["body"]["updated_ts"],
        }
        assert same(unknown, await caller.call("DELETE", f"/batches/{NOBODY}"))
        assert unknown["status"] == 404


async def test_invalidate_upload_url_lines_invalidate_as_direct_calls(
    caller: ApiCaller, worker: RunWorker
) -> None:
    handlers = [await caller.upload(b"{}"), str(uuid4())]
    lines = lines_of(*({"path": {"handler": handler}} for handler in handlers))
    done, unknown = await run(caller, worker, lines, "invalidate_upload_url")
    assert (done["status"], done["body"]) == (200, {"handler": handlers[0]})
    assert same(unknown, await caller.call("DELETE", f"/cache/{handlers[1]}"))
    body = {"handler": handlers[0], "operation": "get_batch"}
    refused = await caller.call("POST", "/batches", json=body)
    assert (refused.status, refused.body["subcode"]) == (404, 404653)
    # Once more, by a line and directly.
    again = lines_of({"path": {"handler": handlers[0]}})
    (line,) = await run(caller, worker, again, "invalidate_upload_url")
    assert same(line, await caller.call("DELETE", f"/cache/{handlers[0]}"))
    assert line["body"]["subcode"] == 400358
