"""Two accounts: the objects of one do not exist for the other."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from batchd.bootstrap import Components
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.refusals import assert_refused
from tests.support.stepping import TO_PROCESSING, TO_THE_END, ended_batch, step

NOWHERE = "00000000-0000-7000-8000-000000000000"
LINES = lines_of({"path": {"batch": NOWHERE}})
CANCEL = {"status": "cancel"}


@pytest.fixture
async def other(make_caller: MakeCaller) -> ApiCaller:
    """Return an admin of another account."""
    return await make_caller()


def assert_same_refusals(
    replies_to_other: Sequence[Reply], replies_to_nobody: Sequence[Reply], *ids: str
) -> None:
    """Of two rows of 404s, each pair must be equal but for the ids asked for, time and trace."""
    for to_other, to_nobody in zip(replies_to_other, replies_to_nobody, strict=True):
        assert comparable(to_other, *ids) == comparable(to_nobody, *ids)


def comparable(reply: Reply, *ids: str) -> object:
    text = assert_refused(reply, 404, 404653)
    for name in ids:
        text = text.replace(name, "…")
    headers = {k: v for k, v in reply.headers.items() if k.lower() not in {"x-request-id", "date"}}
    return text, headers


async def request_batch(caller: ApiCaller, batch: str) -> list[Reply]:
    path = f"/batches/{batch}"
    return [
        await caller.get(path),
        await caller.get(f"{path}?download=true"),
        await caller.get(f"{path}?expand=operation,batch_dict,progress,errors,results"),
        await caller.get(path, headers={"If-None-Match": "*"}),
        await caller.call("PATCH", path, json=CANCEL),
        await caller.call("DELETE", path),
    ]


async def request_upload(caller: ApiCaller, handler: str) -> list[Reply]:
    body = {"handler": handler, "operation": "get_batch"}
    headers = {"Idempotency-Key": "k"}
    return [
        await caller.call("POST", "/batches", json=body),
        await caller.call("POST", "/batches", json={**body, "batch_dict": {"a": 1}}),
        await caller.call("POST", "/batches", json=body, headers=headers),
        await caller.call("DELETE", f"/cache/{handler}"),
    ]


async def test_batch_of_another_account_does_not_exist_in_any_status(
    caller: ApiCaller, other: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    new = await caller.create(LINES)
    running = await caller.create(LINES)
    await step(components, running, *TO_PROCESSING)
    completed = await ended_batch(components, caller, LINES)
    refused = await ended_batch(components, caller, b"x")
    batches = [new, running, completed, refused]
    before = [(await caller.get(f"/batches/{batch}")).body for batch in batches]
    unknown = str(uuid4())
    expected = await request_batch(other, unknown)

    for batch in batches:
        with subtests.test(batch=batch):
            assert_same_refusals(await request_batch(other, batch), expected, batch, unknown)
    assert [(await caller.get(f"/batches/{batch}")).body for batch in batches] == before


async def test_upload_of_another_account_does_not_exist_used_or_unused(
    caller: ApiCaller, other: ApiCaller, subtests: pytest.Subtests
) -> None:
    empty = (await caller.call("POST", "/cache")).body["handler"]
    full, used, invalid = [await caller.upload(LINES) for _ in range(3)]
    body = {"handler": used, "operation": "get_batch"}
    batch = (await caller.call("POST", "/batches", json=body)).body
    await caller.call("DELETE", f"/cache/{invalid}")
    unknown = str(uuid4())
    expected = await request_upload(other, unknown)

    for handler in (empty, full, used, invalid):
        with subtests.test(handler=handler):
            assert_same_refusals(await request_upload(other, handler), expected, handler, unknown)
    assert (await other.get("/batches")).body == {"batches": {}}
    assert (await caller.call("POST", "/batches", json=body)).body == batch
    created = await caller.call("POST", "/batches", json={**body, "handler": full})
    assert created.status == 201


async def test_each_account_lists_its_own_batches(
    caller: ApiCaller, other: ApiCaller, subtests: pytest.Subtests
) -> None:
    own = {await caller.create(LINES) for _ in range(2)}
    others = {await other.create(LINES) for _ in range(2)}

    for query in ("", "?status=new", "?ge=0", "?limit=1000"):
        with subtests.test(query=query):
            assert (await caller.get(f"/batches{query}")).body["batches"].keys() == own
            assert (await other.get(f"/batches{query}")).body["batches"].keys() == others


async def test_colleagues_share_their_batches_and_uploads(
    caller: ApiCaller, make_caller: MakeCaller
) -> None:
    colleague = await make_caller(account=caller.user.user.account)
    handler = await caller.upload(LINES)
    body = {"handler": handler, "operation": "get_batch"}
    created = (await colleague.call("POST", "/batches", json=body)).body

    assert (await caller.get(f"/batches/{created['batch']}")).body == created
    assert (await caller.call("POST", "/batches", json=body)).body == created
    reply = await caller.call("PATCH", f"/batches/{created['batch']}", json=CANCEL)
    assert reply.body["status"] == "cancel"


async def test_idempotency_key_is_valid_in_its_account_only(
    caller: ApiCaller, other: ApiCaller
) -> None:
    headers = {"Idempotency-Key": "the same for both"}
    batches = []
    for user in (caller, other):
        body = {"handler": await user.upload(LINES), "operation": "get_batch"}
        reply = await user.call("POST", "/batches", json=body, headers=headers)
        assert reply.status == 201
        batches.append(reply.body["batch"])
        repeated = await user.call("POST", "/batches", json=body, headers=headers)
        assert repeated.body["batch"] == batches[-1]
        second = {"handler": await user.upload(LINES), "operation": "get_batch"}
        reply = await user.call("POST", "/batches", json=second, headers=headers)
        assert_refused(reply, 400, 400358)

    assert len(set(batches)) == 2


async def test_lines_of_a_batch_see_only_their_account(
    caller: ApiCaller, other: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    other_batch = await caller.create(LINES)
    handler = await caller.upload(LINES)
    for operation, parts in (
        ("get_batch", {"path": {"batch": other_batch}, "query": {"download": True}}),
        ("update_batch", {"path": {"batch": other_batch}, "body": CANCEL}),
        ("delete_batch", {"path": {"batch": other_batch}}),
        ("invalidate_upload_url", {"path": {"handler": handler}}),
    ):
        with subtests.test(operation=operation, parts=parts):
            batch = await other.create(lines_of(parts), operation)
            await step(components, batch, *TO_THE_END)
            (line,) = await other.download(batch)
            assert (line["status"], line["body"]["subcode"]) == (404, 404653), operation

    assert await caller.status(other_batch) == "new"
    body = {"handler": handler, "operation": "get_batch"}
    assert (await caller.call("POST", "/batches", json=body)).status == 201


async def test_error_reveals_no_other_account(
    caller: ApiCaller, other: ApiCaller, subtests: pytest.Subtests
) -> None:
    accounts = {(await user.get("/whoami")).body["account"] for user in (caller, other)}

    assert accounts == {str(caller.user.user.account), str(other.user.user.account)}
    for header in ("X-Account", "Account", "X-User"):
        with subtests.test(header=header):
            headers = {header: str(caller.user.user.account)}
            reply = await other.get("/whoami", headers=headers)
            assert reply.body["account"] == str(other.user.user.account)
