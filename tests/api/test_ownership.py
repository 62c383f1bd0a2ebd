"""Roles limited to the caller's own objects: the others are not found."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from batchd.bootstrap import Components
from batchd.domain.ids import AccountId
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.policies import write_policy
from tests.support.refusals import assert_refused
from tests.support.stepping import ended_batch

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
CANCEL = {"status": "cancel"}
BATCH = {"operation": "get_batch"}


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """Know a clerk, who has to do with its own only, and an auditor, who has not."""
    folder = tmp_path / "policies"
    folder.mkdir()
    write_policy(
        folder,
        "p, admin, *, *, allow",
        "p, clerk, *, *, allow, own",
        "p, auditor, *, *, allow",
        "p, auditor, *, *, deny, own",
        "p, auditor, *, create_batch, allow",
    )
    return {**plugin_environment, "BATCHD_POLICIES": str(folder)}


@pytest.fixture
async def colleague(caller: ApiCaller, make_caller: MakeCaller) -> ApiCaller:
    """Return a clerk in the account of an admin."""
    return await make_caller("clerk", account=caller.user.user.account)


async def test_another_users_batch_is_not_found(
    caller: ApiCaller, colleague: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    other_batch = await ended_batch(components, caller, LINES)
    own = await ended_batch(components, colleague, LINES)

    for call in (("GET", None), ("PATCH", CANCEL), ("DELETE", None)):
        with subtests.test(call=call):
            method, body = call
            refused = await colleague.call(method, f"/batches/{other_batch}", json=body)
            assert assert_refused(refused, 404, 404653).startswith(
                f"There is no batch {other_batch}"
            )
            missing = uuid4()
            not_there = await colleague.call(method, f"/batches/{missing}", json=body)
            assert (
                not_there.body["description"].replace(str(missing), other_batch)
                == (refused.body["description"])
            )
    assert (await colleague.get(f"/batches/{own}")).status == 200
    assert (await caller.get(f"/batches/{own}")).status == 200
    assert (await colleague.call("DELETE", f"/batches/{own}")).status == 200


async def test_list_contains_own_batches(caller: ApiCaller, colleague: ApiCaller) -> None:
    own, others = [], []
    for _ in range(3):
        own.append(await colleague.create(LINES))
        others.append(await caller.create(LINES))

    async def listed(user: ApiCaller, query: str = "") -> list[str]:
        return list((await user.get(f"/batches?{query}")).body["batches"])

    assert await listed(colleague) == own[::-1]
    assert await listed(colleague, "status=new") == own[::-1]
    assert await listed(colleague, "status=completed") == []
    assert await listed(colleague, "ge=1") == own
    both = [batch for pair in zip(own, others, strict=True) for batch in pair]
    assert await listed(caller, "ge=1") == both
    first = (await colleague.get("/batches?limit=2")).body
    second = (await colleague.get(f"/batches?limit=2&cursor={first['cursor']}")).body
    assert [*first["batches"], *second["batches"]] == own[::-1]
    assert "cursor" not in second


async def test_list_excludes_own_batches(
    caller: ApiCaller, colleague: ApiCaller, make_caller: MakeCaller, subtests: pytest.Subtests
) -> None:
    """An auditor that made a batch, by a rule made for this test, does not see that one."""
    auditor = await make_caller("auditor", account=caller.user.user.account)
    other_batch = await caller.create(LINES)
    handler = await colleague.upload(LINES)
    created = await auditor.call("POST", "/batches", json={**BATCH, "handler": handler})
    assert created.status == 201

    for query in ("", "status=new", "ge=1"):
        with subtests.test(query=query):
            assert list((await auditor.get(f"/batches?{query}")).body["batches"]) == [other_batch]
    assert_refused(await auditor.get(f"/batches/{created.body['batch']}"), 404, 404653)


async def test_another_users_upload_is_not_found(
    caller: ApiCaller, colleague: ApiCaller, subtests: pytest.Subtests
) -> None:
    other_upload = await caller.upload(LINES)
    used = await caller.upload(LINES)
    created = await caller.call("POST", "/batches", json={**BATCH, "handler": used})

    assert_refused(await colleague.call("DELETE", f"/cache/{other_upload}"), 404, 404653)
    for handler in (other_upload, used):
        with subtests.test(handler=handler):
            reply = await colleague.call("POST", "/batches", json={**BATCH, "handler": handler})
            assert_refused(reply, 404, 404653)
    repeated = await caller.call("POST", "/batches", json={**BATCH, "handler": used})
    assert repeated.body["batch"] == created.body["batch"]
    own = await colleague.upload(LINES)
    assert (await colleague.call("DELETE", f"/cache/{own}")).status == 200


async def test_own_upload_that_a_colleague_used_does_not_lead_to_its_batch(
    caller: ApiCaller, colleague: ApiCaller
) -> None:
    handler = await colleague.upload(LINES)
    created = await caller.call("POST", "/batches", json={**BATCH, "handler": handler})
    assert created.status == 201

    reply = await colleague.call("POST", "/batches", json={**BATCH, "handler": handler})

    assert created.body["batch"] not in assert_refused(reply, 400, 400358)


async def test_permission_comes_before_form_and_form_before_owner(
    caller: ApiCaller, colleague: ApiCaller, make_caller: MakeCaller
) -> None:
    other_batch = await caller.create(LINES)
    nobody = await make_caller("nobody", account=caller.user.user.account)

    assert_refused(await nobody.get(f"/batches/{other_batch}?download=x"), 403, 403535)
    assert_refused(await colleague.get(f"/batches/{other_batch}?download=x"), 400, 400589)
    assert_refused(await colleague.get(f"/batches/{other_batch}"), 404, 404653)


async def test_lines_of_a_batch_see_what_their_creator_may_see(
    caller: ApiCaller,
    colleague: ApiCaller,
    worker: Callable[[], AbstractAsyncContextManager[None]],
) -> None:
    other_batch = await caller.create(LINES)
    own = await colleague.create(LINES)
    batch = await colleague.create(
        lines_of({"path": {"batch": other_batch}}, {"path": {"batch": own}})
    )
    async with worker():
        await colleague.end(batch)

    assert [line["status"] for line in await colleague.download(batch)] == [404, 200]


async def test_same_user_id_in_another_account_has_no_effect(make_caller: MakeCaller) -> None:
    clerk = await make_caller("clerk")
    other = await make_caller("clerk", account=AccountId(UUID(int=7)))
    batch = await clerk.create(LINES)

    assert_refused(await other.get(f"/batches/{batch}"), 404, 404653)
    assert (await other.get("/batches")).body["batches"] == {}
