"""Each line runs with the permission that the batch's creator has at that time."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

import pytest

from batchd.bootstrap import Components
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.polling import eventually

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

NOBODY = "00000000-0000-7000-8000-000000000000"
LINES = 9


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"line_concurrency": 2})


async def wait_for_refresh(components: Components, batch: str) -> None:
    """Wait until the worker has refreshed the creator, which it does as often as heartbeats."""

    async def lease_end() -> datetime:
        async with components.database.connection() as connection:
            leased_until: datetime = await connection.fetchval(
                "SELECT leased_until FROM chunks WHERE batch = $1", batch
            )
        return leased_until

    for _ in range(2):
        previous = await lease_end()
        await eventually(lease_end, previous.__ne__)


def disable(components: Components, caller: ApiCaller) -> Awaitable[object]:
    return components.services.users.disable(caller.user.user.user)


def become_reader(components: Components, caller: ApiCaller) -> Awaitable[object]:
    return components.services.users.set_role(caller.user.user.user, "reader")


Change = Callable[[Components, ApiCaller], Awaitable[object]]


@pytest.mark.parametrize(
    ("change", "status", "subcode"),
    [
        pytest.param(become_reader, 403, 403535, id="another role"),
        pytest.param(disable, 401, 401000, id="disabled"),
    ],
)
async def test_lines_fail_after_the_creator_loses_the_permission(
    caller: ApiCaller,
    make_caller: MakeCaller,
    worker: RunWorker,
    components: Components,
    gated: GatedOperation,
    change: Change,
    status: int,
    subcode: int,
) -> None:
    colleague = await make_caller(account=caller.user.user.account)
    async with worker():
        batch = await caller.create(numbered_lines(LINES), "gated")
        gated.release(3)
        await gated.wait_started(5)
        await change(components, caller)
        await wait_for_refresh(components, batch)
        gated.release(LINES)
        assert await colleague.end(batch) == "completed"
    results = await colleague.download(batch)
    # Three lines were done, and two had started.
    assert [line["status"] for line in results] == [200] * 5 + [status] * 4
    assert [line["line"] for line in results] == list(range(1, LINES + 1))
    assert {line["outcome"] for line in results[5:]} == {"failed"}
    assert {line["body"]["subcode"] for line in results[5:]} == {subcode}
    assert {tuple(sorted(line["body"])) for line in results[5:]} == {
        ("description", "subcode", "trace")
    }
    assert sorted(gated.started) == [1, 2, 3, 4, 5]
    body = (await colleague.get(f"/batches/{batch}?expand=progress,errors")).body
    assert body["errors"] == {str(status): {"count": 4, "lines": [6, 7, 8, 9]}}
    assert (body["progress"]["succeeded"], body["progress"]["failed"]) == (5, 4)


async def test_line_without_permission_fails_like_a_direct_call(
    make_caller: MakeCaller, worker: RunWorker, components: Components
) -> None:
    submitter = await make_caller("submitter")
    call: dict[str, Any] = {"path": {"batch": NOBODY}, "body": {"status": "cancel"}}
    batch = await submitter.create(lines_of(call), "update_batch")
    await become_reader(components, submitter)
    async with worker():
        assert await submitter.end(batch) == "completed"
    (line,) = await submitter.download(batch)
    direct = await submitter.call("PATCH", f"/batches/{NOBODY}", json=call["body"])
    assert line["status"] == direct.status == 403
    assert line["body"]["description"] == direct.body["description"]
    assert line["body"]["subcode"] == direct.body["subcode"]
    assert line["body"]["trace"] != direct.body["trace"]


async def test_line_runs_after_the_permission_is_restored(
    caller: ApiCaller, worker: RunWorker, components: Components, gated: GatedOperation
) -> None:
    """The permission is checked when the line runs, and earlier losses have no effect."""
    user = caller.user.user.user
    await components.services.users.set_role(user, "admin")
    batch = await caller.create(numbered_lines(LINES), "gated")
    await become_reader(components, caller)
    await components.services.users.set_role(user, "admin")
    gated.release(LINES)
    async with worker():
        assert await caller.end(batch) == "completed"
    assert {line["status"] for line in await caller.download(batch)} == {200}


async def test_role_without_the_operation_cannot_create_its_batch(
    make_caller: MakeCaller,
) -> None:
    submitter = await make_caller("submitter")
    body = {"handler": await submitter.upload(b"{}"), "operation": "delete_batch"}
    reply = await submitter.call("POST", "/batches", json=body)
    assert (reply.status, reply.body["subcode"]) == (403, 403535)
