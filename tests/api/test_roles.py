"""GET /roles and GET /roles/{role}: the policy as statements, without those of other accounts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.callers import ApiCaller
from tests.support.fixtures import MakeCaller
from tests.support.policies import OTHER_ACCOUNT, OURS, write_policy
from tests.support.refusals import assert_refused


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    folder = tmp_path / "policies"
    folder.mkdir()
    write_policy(
        folder,
        "p, admin, *, *, allow",
        "p, reader, *, get_batch, allow",
        "p, reader, *, get_batches, allow",
        "g, clerk, reader",
        "p, clerk, *, delete_batch, allow, own",
        f"p, clerk, {OURS}, update_batch, deny",
        f"p, clerk, {OTHER_ACCOUNT}, create_batch, allow",
        f"p, secret_of_theirs, {OTHER_ACCOUNT}, *, allow",
        "g, clerk, secret_of_theirs",
        "g, alias_of_theirs, secret_of_theirs",
    )
    return {**plugin_environment, "BATCHD_POLICIES": str(folder)}


@pytest.fixture
async def caller(make_caller: MakeCaller) -> ApiCaller:
    return await make_caller(account=OURS)


def statement(effect: str, *actions: str, account: str = "*", scope: str = "any") -> dict[str, Any]:
    return {"effect": effect, "actions": list(actions), "account": account, "scope": scope}


CLERK = {
    "role": "clerk",
    "inherits": ["reader"],
    "statements": [
        statement("deny", "update_batch", account=str(OURS)),
        statement("allow", "delete_batch", scope="own"),
        statement("allow", "get_batch", "get_batches"),
    ],
}
ADMIN = {"role": "admin", "inherits": [], "statements": [statement("allow", "*")]}
READER = {
    "role": "reader",
    "inherits": [],
    "statements": [statement("allow", "get_batch", "get_batches")],
}


async def test_role_includes_inherited_permissions_and_denials(
    caller: ApiCaller,
) -> None:
    assert (await caller.get("/roles/clerk")).body == CLERK
    assert (await caller.get("/roles/admin")).body == ADMIN


async def test_roles_are_listed_by_name(caller: ApiCaller) -> None:
    reply = await caller.get("/roles")

    assert reply.body == {"roles": [ADMIN, CLERK, READER]}
    repeated = await caller.get("/roles", headers={"If-None-Match": reply.headers["ETag"]})
    assert repeated.status == 304


async def test_nothing_of_another_account_is_revealed(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    text = str((await caller.get("/roles")).body)

    assert "theirs" not in text
    assert str(OTHER_ACCOUNT) not in text
    unknown = assert_refused(await caller.get("/roles/nobody"), 404, 404653)
    for role in ("secret_of_theirs", "alias_of_theirs"):
        with subtests.test(role=role):
            refused = assert_refused(await caller.get(f"/roles/{role}"), 404, 404653)
            assert refused == unknown.replace("nobody", role)


async def test_reading_roles_requires_the_permission(make_caller: MakeCaller) -> None:
    clerk = await make_caller("clerk")

    assert_refused(await clerk.get("/roles"), 403, 403535)
    assert_refused(await clerk.get("/roles/clerk"), 403, 403535)
    assert_refused(await clerk.get("/roles/nobody"), 403, 403535)
