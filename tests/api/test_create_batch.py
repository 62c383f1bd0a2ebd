"""create_batch: what it accepts, what it refuses, and the batch that it creates."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.clock import MovableClock
from tests.support.creating import LINES, SHA256, body_of, create, listed
from tests.support.fixtures import MakeCaller
from tests.support.refusals import assert_refused

MAKER = """
p, maker, *, create_batch, allow
p, maker, *, create_upload_url, allow
"""
"""May make batches, but not run get_batch in them."""
NOBODY = str(uuid4())
Worker = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Return settings with what a test changes."""
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """Know one more role."""
    policies = shutil.copytree(plugin_environment["BATCHD_POLICIES"], tmp_path / "policies")
    (policies / "maker.csv").write_text(MAKER)
    return {**plugin_environment, "BATCHD_POLICIES": str(policies)}


def with_settings(**changes: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [changes], indirect=True, ids=["limited"])


async def test_response_equals_that_of_get_batch(caller: ApiCaller, clock: MovableClock) -> None:
    before = clock.now().timestamp()
    reply = await create(caller, await body_of(caller))

    assert reply.status == 201
    assert set(reply.body) == {"batch", "created_ts", "status", "updated_ts"}
    assert reply.body["status"] == "new"
    assert before <= reply.body["created_ts"] <= clock.now().timestamp()
    assert reply.body["updated_ts"] == reply.body["created_ts"]
    assert reply.body == (await caller.get(f"/batches/{reply.body['batch']}")).body


async def test_later_batches_have_later_ids(caller: ApiCaller) -> None:
    bodies = [await body_of(caller) for _ in range(5)]
    batches = [(await create(caller, body)).body["batch"] for body in bodies]

    assert batches == sorted(batches)
    assert {batch[14] for batch in batches} == {"7"}


async def test_batch_runs_the_file_whose_hash_was_given(caller: ApiCaller, worker: Worker) -> None:
    reply = await create(caller, await body_of(caller, hash=SHA256))
    batch = reply.body["batch"]

    assert reply.body["hash"] == SHA256
    async with worker():
        assert await caller.end(batch) == "completed"
    assert (await caller.get(f"/batches/{batch}")).body["hash"] == SHA256
    (line,) = await caller.download(batch)
    assert (line["line"], line["outcome"], line["status"]) == (1, "failed", 404)


async def test_hash_has_64_lower_case_hexadecimal_digits(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    body = await body_of(caller)
    for digest in ("", "A" * 64, "a" * 63, "a" * 65, "g" * 64, "a" * 64 + "\n", 1, ["a" * 64]):
        with subtests.test(digest=digest):
            assert_refused(await create(caller, {**body, "hash": digest}), 400, 400589)
    assert await listed(caller) == set()


async def test_malformed_body_is_refused(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    body = await body_of(caller)
    for changed in (
        {"operation": "get_batch"},
        {"handler": body["handler"]},
        {**body, "handler": "latest"},
        {**body, "handler": f"{body['handler']}\n"},
        {**body, "handler": None},
        {**body, "operation": ""},
        {**body, "operation": "x" * 65},
        {**body, "operation": ["get_batch"]},
        {**body, "colour": 1},
        {**body, "priority": 101},
        {**body, "priority": 1.5},
        {**body, "priority": "1"},
        {},
        [],
        [body],
        "body",
    ):
        with subtests.test(changed=changed):
            assert_refused(await create(caller, changed), 400, 400589)
    assert_refused(await caller.call("POST", "/batches", data="null"), 400, 400589)
    assert await listed(caller) == set()
    assert (await create(caller, body)).status == 201


async def test_operation_that_cannot_run_in_batches_is_refused(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    body = await body_of(caller)
    for operation in ("no_such", "create_batch", "get_batches", "GET_BATCH", "get_batch "):
        with subtests.test(operation=operation):
            assert_refused(await create(caller, {**body, "operation": operation}), 400, 400897)


async def test_unknown_handler_is_not_found(caller: ApiCaller, make_caller: MakeCaller) -> None:
    other = await make_caller()
    unknown = {"handler": NOBODY, "operation": "get_batch"}

    assert_refused(await create(caller, unknown), 404, 404653)
    assert_refused(await create(caller, await body_of(other)), 404, 404653)


async def test_colleague_may_use_the_upload(caller: ApiCaller, make_caller: MakeCaller) -> None:
    colleague = await make_caller("submitter", account=caller.user.user.account)

    reply = await create(colleague, await body_of(caller))

    assert reply.status == 201
    assert await listed(caller) == {reply.body["batch"]}


async def test_expired_handler_is_not_found(caller: ApiCaller, clock: MovableClock) -> None:
    in_time, expired_body = await body_of(caller), await body_of(caller)

    clock.move(3540)
    assert (await create(caller, in_time)).status == 201
    clock.move(61)
    assert_refused(await create(caller, expired_body), 404, 404653)
    assert_refused(await create(caller, {**expired_body, "hash": SHA256}), 404, 404653)


async def test_invalidated_handler_is_not_found(caller: ApiCaller) -> None:
    body = await body_of(caller)
    assert (await caller.call("DELETE", f"/cache/{body['handler']}")).status == 200

    assert_refused(await create(caller, body), 404, 404653)


async def test_batch_without_an_uploaded_file_is_refused(caller: ApiCaller) -> None:
    upload = (await caller.call("POST", "/cache")).body
    body = {"handler": upload["handler"], "operation": "get_batch"}

    assert_refused(await create(caller, body), 400, 400592)
    async with caller.session.put(upload["url"], data=LINES) as response:
        assert response.status == 200
    assert (await create(caller, body)).status == 201


async def test_role_needs_create_batch_and_the_operation(
    caller: ApiCaller, make_caller: MakeCaller, subtests: pytest.Subtests
) -> None:
    account = caller.user.user.account
    body = await body_of(caller)
    for role in ("maker", "reader", "operator", "nobody"):
        with subtests.test(role=role):
            colleague = await make_caller(role, account=account)
            assert_refused(await create(colleague, body), 403, 403535)
    assert await listed(caller) == set()
    assert (await create(await make_caller("submitter", account=account), body)).status == 201


async def test_without_create_batch_nothing_else_is_revealed(
    make_caller: MakeCaller, subtests: pytest.Subtests
) -> None:
    """A role that may not is refused the same, whatever it sends."""
    reader = await make_caller("reader")
    for body in ({}, {"handler": NOBODY, "operation": "no_such"}, "nonsense"):
        with subtests.test(body=body):
            assert_refused(await create(reader, body), 403, 403535)


@with_settings(max_file_bytes=len(LINES))
async def test_too_large_file_is_refused(caller: ApiCaller) -> None:
    too_large = await caller.upload(LINES + b"\n")

    reply = await create(caller, {"handler": too_large, "operation": "get_batch"})

    assert_refused(reply, 400, 400141)
    assert (await create(caller, await body_of(caller))).status == 201


@with_settings(max_open_batches=2)
async def test_open_batches_of_an_account_are_limited(
    caller: ApiCaller, make_caller: MakeCaller, worker: Worker
) -> None:
    colleague = await make_caller(account=caller.user.user.account)
    bodies = [await body_of(caller) for _ in range(3)]
    first = (await create(caller, bodies[0])).body["batch"]
    assert (await create(caller, bodies[1])).status == 201

    assert_refused(await create(caller, bodies[2]), 400, 400141)
    assert_refused(await create(colleague, bodies[2]), 400, 400141)
    stranger = await make_caller()
    assert (await create(stranger, await body_of(stranger))).status == 201
    assert (await create(caller, bodies[0])).body["batch"] == first
    async with worker():
        await caller.end(first)
    assert (await create(caller, bodies[2])).status == 201


async def test_unknown_query_parameter_is_refused_and_creates_nothing(caller: ApiCaller) -> None:
    body = {"handler": await caller.upload(b"{}\n"), "operation": "get_batch"}
    reply = await caller.call("POST", "/batches?dry_run=true", json=body)
    assert_refused(reply, 400, 400589)
    assert (await caller.get("/batches")).body == {"batches": {}}


async def test_null_and_a_byte_order_mark_are_ignored(caller: ApiCaller) -> None:
    handler = await caller.upload(b"")
    required = f'"handler": "{handler}", "operation": "get_batch"'
    nulls = f'{{{required}, "hash": null, "batch_dict": null, "priority": null}}'
    bodies = [f"{{{required}}}", nulls, f"\ufeff{{{required}}}"]
    replies = [await caller.call("POST", "/batches", data=body.encode()) for body in bodies]
    assert [reply.status for reply in replies] == [201] * 3
    assert len({reply.body["batch"] for reply in replies}) == 1


async def test_duplicate_name_is_refused(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    handler = await caller.upload(b"")
    required = f'"handler": "{handler}", "operation": "get_batch"'
    for more in ('"operation": "get_batch"', '"batch_dict": {"a": {"b": 1, "b": 1}}'):
        with subtests.test(more=more):
            body = f"{{{required}, {more}}}".encode()
            assert "twice" in assert_refused(
                await caller.call("POST", "/batches", data=body), 400, 400589
            )


async def test_error_names_only_operations_that_the_caller_may_run(
    make_caller: MakeCaller, subtests: pytest.Subtests
) -> None:
    admin, submitter = await make_caller("admin"), await make_caller("submitter")
    named = []
    for each in (admin, submitter):
        with subtests.test(each=each):
            body = {"handler": str(UUID(int=0)), "operation": "nothing"}
            refused = await each.call("POST", "/batches", json=body)
            named.append(assert_refused(refused, 400, 400897))
    assert all("get_batch" in description for description in named)
    assert "delete_batch" in named[0]
    assert "delete_batch" not in named[1]
