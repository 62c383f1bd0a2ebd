"""Lines run with the permission that the batch's creator has when they run."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

import pytest

from batchd.bootstrap import Components
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.gated_operation import Gated, numbered_lines
from tests.support.polling import eventually

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

NOBODY = "00000000-0000-7000-8000-000000000000"
LINES = 9


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"line_concurrency": 2})


async def until_noticed(components: Components, batch: str) -> None:
    """Wait until the worker has looked again who the creator is: it does so after each pulse."""

    async def pulse() -> datetime:
        async with components.database.connection() as connection:
            seen: datetime = await connection.fetchval(
                "SELECT leased_until FROM chunks WHERE batch = $1", batch
            )
        return seen

    for _ in range(2):
        before = await pulse()
        await eventually(pulse, before.__ne__)


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
async def test_lines_after_the_creator_lost_the_permission_fail(
    caller: ApiCaller,
    make_caller: MakeCaller,
    worker: RunWorker,
    components: Components,
    gated: Gated,
    change: Change,
    status: int,
    subcode: int,
) -> None:
    colleague = await make_caller(account=caller.user.user.account)
    async with worker():
        batch = await caller.create(numbered_lines(LINES), "gated")
        gated.let(3)
        await gated.until_begun(5)
        await change(components, caller)
        await until_noticed(components, batch)
        gated.let(LINES)
        assert await colleague.end(batch) == "completed"
    results = await colleague.download(batch)
    # Three were done, two had begun.
    assert [line["status"] for line in results] == [200] * 5 + [status] * 4
    assert [line["line"] for line in results] == list(range(1, LINES + 1))
    for line in results[5:]:
        assert line["outcome"] == "failed"
        assert set(line["body"]) == {"subcode", "trace", "description"}
        assert line["body"]["subcode"] == subcode
    assert gated.begun == [1, 2, 3, 4, 5]
    shown = (await colleague.get(f"/batches/{batch}?expand=progress,errors")).body
    assert shown["errors"] == {str(status): {"count": 4, "lines": [6, 7, 8, 9]}}
    assert (shown["progress"]["succeeded"], shown["progress"]["failed"]) == (5, 4)


async def test_lines_say_what_a_direct_call_would(
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


async def test_permission_that_comes_back_counts_again(
    caller: ApiCaller, worker: RunWorker, components: Components, gated: Gated
) -> None:
    """What counts is the moment when a line runs, not the worst that was ever seen."""
    user = caller.user.user.user
    await components.services.users.set_role(user, "admin")
    batch = await caller.create(numbered_lines(LINES), "gated")
    await become_reader(components, caller)
    await components.services.users.set_role(user, "admin")
    gated.let(LINES)
    async with worker():
        assert await caller.end(batch) == "completed"
    assert {line["status"] for line in await caller.download(batch)} == {200}


async def test_role_that_may_not_run_the_operation_can_not_make_the_batch(
    make_caller: MakeCaller,
) -> None:
    submitter = await make_caller("submitter")
    body = {"handler": await submitter.upload(b"{}"), "operation": "delete_batch"}
    reply = await submitter.call("POST", "/batches", json=body)
    assert (reply.status, reply.body["subcode"]) == (403, 403535)
