"""HTTP operations in batches: from the upload to the results, with the shipped example."""

import asyncio
import json
import runpy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
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
from tests.support.polling import TIMEOUT_S, eventually
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
def plugin_environment(
    plugin_environment: Mapping[str, str],
    operations_file: Path,
    example: TestClient[web.Request, web.Application],
    upstream: Upstream,
) -> Mapping[str, str]:
    return {
        **plugin_environment,
        "BATCHD_OPERATIONS": str(operations_file),
        "EXAMPLE_UPSTREAM_URL": str(example.make_url("/")),
        "OWN_URL": upstream.url,
    }


@pytest.mark.slow
async def test_example_runs_every_line(
    caller: ApiCaller, worker: RunWorker, example: TestClient[web.Request, web.Application]
) -> None:
    lines = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    assert len(lines) >= 500
    async with worker():
        batch = await caller.create(SAMPLE.read_bytes(), "create_invoice")
        assert await caller.end(batch) == "completed"
    results = await caller.download(batch)
    assert [(result["line"], result["id"]) for result in results] == [
        (number, line["id"]) for number, line in enumerate(lines, start=1)
    ]
    unexpected = [
        result for line, result in zip(lines, results, strict=True) if not is_expected(line, result)
    ]
    assert unexpected == []
    statuses = Counter(str(line["query"]["status"]) for line in lines if "status" in str(line))
    created = len(lines) - statuses.total()
    reply = await caller.get(f"/batches/{batch}?expand=progress,errors")
    assert reply.body["progress"]["succeeded"] == created
    errors = reply.body["errors"].items()
    assert {status: error["count"] for status, error in errors} == statuses
    async with example.get("/count") as response:
        count = await response.json()
    assert count["invoices"] == created
    assert count["calls"] == len(lines) + sum(
        line.get("query", {}).get("fail", 0) for line in lines
    )


def is_expected(line: dict[str, Any], result: dict[str, Any]) -> bool:
    """Return whether the result is the status that the line requests, or else its invoice."""
    requested_status = line.get("query", {}).get("status")
    if requested_status is not None:
        return (result["outcome"], result["status"]) == ("failed", requested_status)
    invoice = {**line["body"], "customer": line["path"]["customer"]}
    return (result["outcome"], result["status"]) == ("succeeded", 201) and (
        invoice.items() <= result["body"].items()
    )


async def test_invalid_line_is_reported_by_pointers_and_nothing_is_called(
    caller: ApiCaller, worker: RunWorker, example: TestClient[web.Request, web.Application]
) -> None:
    valid: dict[str, Any] = {"path": {"customer": "c"}, "body": {"amount": 1, "currency": "EUR"}}
    invalid = {"id": "b", "path": {"customer": ".."}, "body": {"amount": -1, "due": "soon"}}
    async with worker():
        batch = await caller.create(lines_of(valid, invalid), "create_invoice")
        assert await caller.end(batch) == "validation_failed"
    (reported,) = await caller.download(batch)
    assert (reported["line"], reported["id"]) == (2, "b")
    assert {error["pointer"] for error in reported["errors"]} == {
        *("/path/customer", "/body/amount", "/body/due", "/body/currency")
    }
    async with example.get("/count") as response:
        assert (await response.json())["calls"] == 0


@pytest.mark.slow
async def test_line_keeps_its_idempotency_key_after_a_takeover(
    caller: ApiCaller, worker: RunWorker, upstream: Upstream
) -> None:
    async def running_calls() -> int:
        return upstream.in_progress

    upstream.reply(lambda: hanging)
    async with worker():
        batch = await caller.create(lines_of(*({"path": {"n": n}} for n in range(1, 31))), "touch")
        await eventually(running_calls, lambda calls: calls == 30)
    upstream.statuses([200])
    async with worker():
        assert await caller.end(batch) == "completed"
    assert [line["outcome"] for line in await caller.download(batch)] == ["succeeded"] * 30
    keys = {f"/things/{n}": f"{batch}:{n}" for n in range(1, 31)}
    calls = Counter((call.target, call.headers["idempotency-key"]) for call in upstream.requests)
    assert calls == dict.fromkeys(keys.items(), 2)


async def test_operation_defines_the_size_of_its_chunks(
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


async def test_role_requires_the_permission_of_the_operation(make_caller: MakeCaller) -> None:
    submitter = await make_caller("submitter")
    body = {"handler": await submitter.upload(b"{}"), "operation": "touch"}
    assert_refused(await submitter.call("POST", "/batches", json=body), 403, 403535)


async def test_error_for_an_unknown_operation_lists_the_known_ones(caller: ApiCaller) -> None:
    body = {"handler": await caller.upload(b"{}"), "operation": "create_invoices"}
    description = assert_refused(await caller.call("POST", "/batches", json=body), 400, 400897)
    assert "create_invoice, delete_batch, get_batch, get_rate, invalidate" in description


async def test_operation_that_was_removed_is_not_run(
    caller: ApiCaller, worker: RunWorker, components: Components, operations_file: Path
) -> None:
    batch = await caller.create(lines_of({"path": {"n": 1}}), "touch")
    operations = components.dispatcher._context.operations

    async def operation() -> object:
        return operations.find("touch")

    operations_file.write_text((EXAMPLES / "operations.toml").read_text())
    await eventually(operation, lambda current: current is None)
    async with worker():
        assert await caller.end(batch) == "validation_failed"
    (reported,) = await caller.download(batch)
    assert reported["errors"][0]["code"] == "operation_not_allowed"


@pytest.mark.parametrize("name", ["get_batch", "create_batch", "who_am_i"])
async def test_nothing_starts_with_an_operation_that_takes_another_permissions_name(
    settings: Settings,
    plugin_environment: Mapping[str, str],
    operations_file: Path,
    name: str,
) -> None:
    operations_file.write_text(OWN.replace("touch", name))
    with pytest.raises(StartupError, match=rf"operations\.toml: operations\.{name}: the name is"):
        async with open_components(settings, environment=plugin_environment):
            pass


async def test_nothing_starts_without_the_variables_that_the_file_refers_to(
    settings: Settings, plugin_environment: Mapping[str, str]
) -> None:
    environment = {**plugin_environment, "OWN_URL": ""}
    with pytest.raises(StartupError, match=r"operations\.touch\.url: .* OWN_URL is not set"):
        async with open_components(settings, environment=environment):
            pass


async def test_running_calls_end_with_the_process(
    caller: ApiCaller, worker: RunWorker, upstream: Upstream
) -> None:
    async def calls_in_progress() -> int:
        return upstream.in_progress

    upstream.reply(lambda: hanging)
    async with worker():
        await caller.create(lines_of({"path": {"n": 1}}), "touch")
        await eventually(calls_in_progress, lambda calls: calls == 1)
    async with asyncio.timeout(TIMEOUT_S):
        await eventually(calls_in_progress, lambda calls: calls == 0)


@pytest.mark.slow
async def test_a_batch_waits_for_its_upstream_and_others_run_meanwhile(
    caller: ApiCaller,
    worker: RunWorker,
    upstream: Upstream,
    example: TestClient[web.Request, web.Application],
) -> None:
    async def calls() -> int:
        return len(upstream.requests)

    upstream.statuses([503])
    lines = lines_of(*({"path": {"n": n}} for n in range(200)))
    async with worker():
        waiting = await caller.create(lines, "touch_few")
        await eventually(calls, lambda count: count >= 10)
        other = await caller.create(lines_of({"path": {"currency": "CHF"}}), "get_rate")
        assert await caller.end(other) == "completed"
        assert await caller.status(waiting) == "processing"
        upstream.statuses([200])
        assert await caller.end(waiting) == "completed"
    assert [line["status"] for line in await caller.download(waiting)] == [200] * 200


@pytest.mark.slow
async def test_a_batch_that_waits_for_its_upstream_is_cancelled(
    caller: ApiCaller, worker: RunWorker, upstream: Upstream
) -> None:
    async def calls() -> int:
        return len(upstream.requests)

    upstream.statuses([*[200] * 5, 503])
    lines = lines_of(*({"path": {"n": n}} for n in range(200)))
    async with worker():
        batch = await caller.create(lines, "touch")
        await eventually(calls, lambda count: count >= 15)
        await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
        assert await caller.end(batch) == "cancelled"
    outcomes = Counter(line["outcome"] for line in await caller.download(batch))
    assert outcomes == {"succeeded": 5, "cancelled": 195}
