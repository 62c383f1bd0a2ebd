"""Lines of the built-in operations have the same results as direct calls."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

import pytest

from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.gated_operation import GatedOperation, numbered_lines

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

NOBODY = "00000000-0000-7000-8000-000000000000"
TARGET_LINES = lines_of({"path": {"batch": NOBODY}})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Run the lines of a chunk one by one, so that their order is known."""
    return settings.model_copy(update={"line_concurrency": 1})


def without_trace(body: Any) -> Any:
    """Return the body without the attribute that is unique to each failure."""
    return {name: value for name, value in body.items() if name != "trace"}


async def run(caller: ApiCaller, worker: RunWorker, lines: bytes, operation: str) -> list[Any]:
    """Run a batch with a worker, and return its results."""
    async with worker():
        batch = await caller.create(lines, operation)
        assert await caller.end(batch) == "completed"
    return await caller.download(batch)


async def create_target(caller: ApiCaller) -> str:
    """Create a batch for the lines to operate on."""
    return await caller.create(TARGET_LINES)


def same(line: Mapping[str, Any], reply: Reply) -> bool:
    """Return whether the result of the line is that of the direct call."""
    outcome = "succeeded" if reply.status < 400 else "failed"
    return (line["outcome"], line["status"]) == (outcome, reply.status) and without_trace(
        line["body"]
    ) == without_trace(reply.body)


async def test_get_batch_lines_return_the_same_as_direct_calls(
    caller: ApiCaller, worker: RunWorker
) -> None:
    async with worker():
        ended = await caller.create(
            TARGET_LINES, hash=hashlib.sha256(TARGET_LINES).hexdigest(), batch_dict={"a": [1]}
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
    replies = [
        await caller.get(f"/batches/{line['path']['batch']}{query}")
        for line, query in zip(lines, queries, strict=True)
    ]
    assert list(map(same, results, replies)) == [True] * len(lines)
    assert [line["status"] for line in results] == [200, 200, 200, 200, 404]


async def test_get_batch_lines_return_valid_urls(caller: ApiCaller, worker: RunWorker) -> None:
    async with worker():
        ended = await create_target(caller)
        assert await caller.end(ended) == "completed"
    lines = lines_of(
        *({"path": {"batch": ended}, "query": {"download": value}} for value in (True, "true", "1"))
    )
    downloads = [line["body"]["download"] for line in await run(caller, worker, lines, "get_batch")]
    assert [set(download) for download in downloads] == [{"validity_ts", "url"}] * 3
    contents = []
    for download in downloads:
        async with caller.session.get(download["url"]) as response:
            contents.append(await response.read())
    assert contents == [await caller.download_bytes(ended)] * 3


async def test_batch_of_another_account_does_not_exist_for_a_line(
    caller: ApiCaller, worker: RunWorker, make_caller: MakeCaller
) -> None:
    target = await create_target(await make_caller())
    (line,) = await run(caller, worker, lines_of({"path": {"batch": target}}), "get_batch")
    assert same(line, await caller.get(f"/batches/{target}"))
    assert line["status"] == 404


async def test_update_batch_lines_cancel_like_direct_calls(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    cancel = {"status": "cancel"}
    async with worker():
        running = [await caller.create(numbered_lines(1), "gated") for _ in range(2)]
        await gated.wait_started(2)
        before = (await caller.get(f"/batches/{running[0]}")).body
        direct = await caller.call("PATCH", f"/batches/{running[1]}", json=cancel)
        lines = lines_of(
            {"path": {"batch": running[0]}, "body": cancel},
            {"path": {"batch": running[0]}, "body": cancel},
            {"path": {"batch": NOBODY}, "body": cancel},
        )
        batch = await caller.create(lines, "update_batch")
        assert await caller.end(batch) == "completed"
        assert [await caller.end(target) for target in running] == ["cancelled", "cancelled"]
        cancelled, repeated, unknown = await caller.download(batch)
    assert (cancelled["status"], cancelled["body"]) == (
        direct.status,
        {**before, "status": "cancel", "updated_ts": cancelled["body"]["updated_ts"]},
    )
    assert set(direct.body) == set(cancelled["body"])
    reply = await caller.call("PATCH", f"/batches/{running[0]}", json=cancel)
    assert (repeated["status"], repeated["body"]["subcode"]) == (
        reply.status,
        reply.body["subcode"],
    )
    assert repeated["body"]["subcode"] == 400358
    assert same(unknown, await caller.call("PATCH", f"/batches/{NOBODY}", json=cancel))


async def test_batch_that_is_not_at_an_end_is_not_deleted_by_a_line(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    async with worker():
        running = await caller.create(numbered_lines(1), "gated")
        await gated.wait_started(1)
        batch = await caller.create(lines_of({"path": {"batch": running}}), "delete_batch")
        assert await caller.end(batch) == "completed"
        (line,) = await caller.download(batch)
        assert same(line, await caller.call("DELETE", f"/batches/{running}"))
        assert line["body"]["subcode"] == 400592
        gated.release(1)
        assert await caller.end(running) == "completed"


async def test_delete_batch_lines_delete_like_direct_calls(
    caller: ApiCaller, worker: RunWorker
) -> None:
    async with worker():
        ended = await create_target(caller)
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


async def test_invalidate_upload_url_lines_invalidate_like_direct_calls(
    caller: ApiCaller, worker: RunWorker
) -> None:
    handlers = [await caller.upload(b"{}"), str(uuid4())]
    lines = lines_of(*({"path": {"handler": handler}} for handler in handlers))
    invalidated, unknown = await run(caller, worker, lines, "invalidate_upload_url")
    assert (invalidated["status"], invalidated["body"]) == (200, {"handler": handlers[0]})
    assert same(unknown, await caller.call("DELETE", f"/cache/{handlers[1]}"))
    body = {"handler": handlers[0], "operation": "get_batch"}
    reply = await caller.call("POST", "/batches", json=body)
    assert (reply.status, reply.body["subcode"]) == (404, 404653)
    # The second time, both are refused.
    lines = lines_of({"path": {"handler": handlers[0]}})
    (line,) = await run(caller, worker, lines, "invalidate_upload_url")
    assert same(line, await caller.call("DELETE", f"/cache/{handlers[0]}"))
    assert line["body"]["subcode"] == 400358
