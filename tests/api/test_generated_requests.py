"""Generated requests get only documented responses: schemathesis, on the real stack."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import pytest

from batchd.operations.request_schemas import EXPANDABLE
from tests.support.callers import ApiCaller, lines_of
from tests.support.generated import Findings, send_generated_requests
from tests.support.openapi import operations, strict_document

pytestmark = pytest.mark.slow

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})


@pytest.fixture
async def existing(
    caller: ApiCaller, worker: Callable[[], AbstractAsyncContextManager[None]]
) -> dict[str, list[str]]:
    """Return what exists to be asked for: batches new and run, uploads used and not, a cursor."""
    async with worker():
        run = [await caller.create(LINES) for _ in range(3)]
        for batch in run:
            assert await caller.end(batch) == "completed"
    page = await caller.get("/batches?limit=1")
    return {
        "path.batch": [*run, *[await caller.create(LINES) for _ in range(5)]],
        "path.handler": [await caller.upload(LINES) for _ in range(5)],
        "query.cursor": [page.body["cursor"]],
        "query.expand": [",".join(EXPANDABLE)],
        # And some that are not there: chance alone makes too few that are otherwise well-formed.
        "body.handler": [
            *[await caller.upload(LINES) for _ in range(20)],
            *[str(UUID(int=number)) for number in range(5)],
        ],
        "body.operation": ["get_batch", "update_batch"],
    }


def _report(findings: Findings) -> str:
    return "\n\n".join(sorted(set(findings.failures)))


async def test_every_response_is_documented(
    caller: ApiCaller, existing: dict[str, list[str]]
) -> None:
    findings = await asyncio.to_thread(
        send_generated_requests,
        caller.url,
        caller.user.secret,
        phases=["examples", "coverage", "fuzzing"],
        examples=25,
        existing=existing,
    )
    assert not findings.failures, _report(findings)
    # The requests have gone deep enough for that to mean something.
    assert findings.statuses("GET /batches") >= {200, 304, 400}
    assert findings.statuses("GET /batches/{batch}") >= {200, 400, 401, 404, 405}
    assert findings.statuses("POST /batches") >= {201, 400, 404}
    assert findings.statuses("PATCH /batches/{batch}") >= {200, 400, 404}
    assert findings.statuses("DELETE /batches/{batch}") >= {200, 400, 404}
    assert findings.statuses("DELETE /cache/{handler}") >= {200, 400, 404}


async def test_every_response_in_a_chain_of_calls_is_documented(
    caller: ApiCaller, existing: dict[str, list[str]]
) -> None:
    findings = await asyncio.to_thread(
        send_generated_requests,
        caller.url,
        caller.user.secret,
        phases=["stateful"],
        examples=40,
        existing=existing,
    )
    assert not findings.failures, _report(findings)
    # The links of the document lead from an upload to its end, and from a batch to its own.
    assert 200 in findings.statuses("DELETE /cache/{handler}")
    assert 200 in findings.statuses("GET /batches/{batch}")


async def test_invalid_secret_always_gets_401(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    findings = await asyncio.to_thread(
        send_generated_requests,
        caller.url,
        "x" * 64,
        phases=["examples", "coverage", "fuzzing"],
        examples=5,
    )
    assert not findings.failures, _report(findings)
    for method, path, operation in operations(strict_document()):
        with subtests.test(method=method, path=path, operation=operation):
            if operation.get("security") != []:
                assert findings.statuses(f"{method} {path}", method) == {401}, path
