"""HTTP operations in batches: from the uploaded file to the results, with the shipped example."""

import asyncio
import json
import runpy
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from batchd.bootstrap import Components, open_components
from batchd.domain.ports import StartupError
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.polling import eventually
from tests.support.refusals import assert_refused
from tests.support.upstream import Upstream, hanging

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = EXAMPLES / "upstream_sample.jsonl"

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

OWN = """
[operations.touch]
method = "PUT"
url = "${OWN_URL}/things/{n}"

[operations.touch_few]
method = "PUT"
url = "${OWN_URL}/things/{n}"
chunk_lines = 3
"""


@pytest.fixture
async def example() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """Serve examples/upstream.py."""
    app: web.Application = runpy.run_path(str(EXAMPLES / "upstream.py"))["make_app"]()
    async with TestClient(TestServer(app)) as client:
        yield client


@pytest.fixture
def operations_file(tmp_path: Path) -> Path:
    """Return a file with the example's operations and one more, beside a copy of the schema."""
    schema = EXAMPLES / "create_invoice.schema.json"
    (tmp_path / schema.name).write_bytes(schema.read_bytes())
    file = tmp_path / "operations.toml"
    file.write_text((EXAMPLES / "operations.toml").read_text() + OWN)
    return file


@pytest.fixture
def settings(
    settings: Settings,
    operations_file: Path,
    example: TestClient[web.Request, web.Application],
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    monkeypatch.setenv("EXAMPLE_UPSTREAM_URL", str(example.make_url("/")))
    monkeypatch.setenv("OWN_URL", upstream.url)
    return settings.model_copy(update={"operations": operations_file})


async def test_the_example_is_run_line_by_line(
    caller: ApiCaller, worker: RunWorker, example: TestClient[web.Request, web.Application]
) -> None:
    lines = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    assert len(lines) >= 500
    async with worker():
        batch = await caller.create(SAMPLE.read_bytes(), "create_invoice")
        assert await caller.end(batch, within_s=60) == "completed"
    results = await caller.download(batch)
    assert [(found["line"], found["id"]) for found in results] == [
        (number, line["id"]) for number, line in enumerate(lines, start=1)
    ]
    made = 0
    for line, found in zip(lines, results, strict=True):
        wanted = line.get("query", {}).get("status")
        assert found["status"] == (wanted or 201)
        assert found["outcome"] == ("failed" if wanted else "succeeded")
        if wanted is None:
            made += 1
            assert line["body"].items() <= found["body"].items()
            assert found["body"]["customer"] == line["path"]["customer"]
    reply = await caller.get(f"/batches/{batch}?expand=progress,errors")
    assert reply.body["progress"]["succeeded"] == made
    asked = Counter(str(line["query"]["status"]) for line in lines if "status" in str(line))
    assert {status: found["count"] for status, found in reply.body["errors"].items()} == asked
    async with example.get("/count") as response:
        count = await response.json()
    assert count["invoices"] == made
    assert count["calls"] == len(lines) + sum(
        line.get("query", {}).get("fail", 0) for line in lines
    )


async def test_a_bad_line_is_reported_by_pointers_and_nothing_is_called(
    caller: ApiCaller, worker: RunWorker, example: TestClient[web.Request, web.Application]
) -> None:
    good: dict[str, Any] = {"path": {"customer": "c"}, "body": {"amount": 1, "currency": "EUR"}}
    bad = {"id": "b", "path": {"customer": ".."}, "body": {"amount": -1, "due": "soon"}}
    async with worker():
        batch = await caller.create(lines_of(good, bad), "create_invoice")
        assert await caller.end(batch) == "validation_failed"
    (reported,) = await caller.download(batch)
    assert (reported["line"], reported["id"]) == (2, "b")
    assert {problem["pointer"] for problem in reported["errors"]} == {
        *("/path/customer", "/body/amount", "/body/due", "/body/currency")
    }
    async with example.get("/count") as response:
        assert (await response.json())["calls"] == 0


async def test_a_line_keeps_its_key_when_another_worker_takes_over(
    caller: ApiCaller, worker: RunWorker, upstream: Upstream
) -> None:
    async def begun() -> int:
        return upstream.under_way

    upstream.reply(lambda: hanging)
    async with worker():
        batch = await caller.create(lines_of(*({"path": {"n": n}} for n in range(1, 31))), "touch")
        await eventually(begun, lambda calls: calls == 30)
    upstream.statuses([200])
    async with worker():
        assert await caller.end(batch) == "completed"
    assert [line["outcome"] for line in await caller.download(batch)] == ["succeeded"] * 30
    keys = {f"/things/{n}": f"{batch}:{n}" for n in range(1, 31)}
    seen = Counter((call.target, call.headers["idempotency-key"]) for call in upstream.seen)
    assert seen == dict.fromkeys(keys.items(), 2)


async def test_a_worker_takes_as_many_lines_at_a_time_as_the_operation_says(
    caller: ApiCaller, worker: RunWorker, upstream: Upstream, components: Components
) -> None:
    async def sizes() -> list[int]:
        async with components.database.connection() as connection:
            rows = await connection.fetch("SELECT lines FROM chunks ORDER BY no")
        return [row["lines"] for row in rows]

    upstream.reply(lambda: hanging)
    async with worker():
        batch = await caller.create(lines_of(*({"path": {"n": n}} for n in range(7))), "touch_few")
        await eventually(sizes, bool)
        assert await sizes() == [3, 3, 1]
        upstream.statuses([200])
        await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
        assert await caller.end(batch) == "cancelled"


async def test_the_role_needs_the_operations_permission(make_caller: MakeCaller) -> None:
    submitter = await make_caller("submitter")
    body = {"handler": await submitter.upload(b"{}"), "operation": "touch"}
    assert_refused(await submitter.call("POST", "/batches", json=body), 403, 403535)


async def test_who_asks_for_an_unknown_operation_is_told_the_known_ones(caller: ApiCaller) -> None:
    body = {"handler": await caller.upload(b"{}"), "operation": "create_invoices"}
    description = assert_refused(await caller.call("POST", "/batches", json=body), 400, 400897)
    assert "create_invoice, delete_batch, get_batch, get_rate, invalidate" in description


async def test_an_operation_that_was_removed_runs_no_more(
    caller: ApiCaller, worker: RunWorker, components: Components, operations_file: Path
) -> None:
    batch = await caller.create(lines_of({"path": {"n": 1}}), "touch")
    known = components.dispatcher._context.operations

    async def found() -> object:
        return known.find("touch")

    operations_file.write_text((EXAMPLES / "operations.toml").read_text())
    await eventually(found, lambda operation: operation is None)
    async with worker():
        assert await caller.end(batch) == "validation_failed"
    (reported,) = await caller.download(batch)
    assert reported["errors"][0]["code"] == "operation_not_allowed"


@pytest.mark.parametrize("name", ["get_batch", "create_batch", "who_am_i"])
async def test_nothing_starts_with_an_operation_that_takes_another_permissions_name(
    settings: Settings, operations_file: Path, name: str
) -> None:
    operations_file.write_text(OWN.replace("touch", name))
    with pytest.raises(StartupError, match=rf"operations\.toml: operations\.{name}: batchd has"):
        async with open_components(settings):
            pass


async def test_nothing_starts_without_the_variables_that_the_file_refers_to(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OWN_URL")
    with pytest.raises(StartupError, match=r"operations\.touch\.url: .* OWN_URL is not set"):
        async with open_components(settings):
            pass


async def test_calls_under_way_end_with_the_process(
    caller: ApiCaller, worker: RunWorker, upstream: Upstream
) -> None:
    async def under_way() -> int:
        return upstream.under_way

    upstream.reply(lambda: hanging)
    async with worker():
        await caller.create(lines_of({"path": {"n": 1}}), "touch")
        await eventually(under_way, lambda calls: calls == 1)
    async with asyncio.timeout(10):
        await eventually(under_way, lambda calls: calls == 0)
