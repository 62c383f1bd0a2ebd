"""`batchd users`: the output of each command, and its effect."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from batchd.bootstrap import open_users
from batchd.services.users import Users
from batchd.settings import Settings
from tests.support.command import batchd
from tests.support.policies import write_policy
from tests.support.secrets import holder, works

pytestmark = pytest.mark.slow


@pytest.fixture
def env(process_environment: Mapping[str, str]) -> Mapping[str, str]:
    return process_environment


@pytest.fixture
async def users(settings: Settings) -> AsyncIterator[Users]:
    """Return the service, as the API has it."""
    async with open_users(settings) as opened:
        yield opened


async def test_user_is_created_rotated_and_disabled(env: Mapping[str, str], users: Users) -> None:
    creation = await batchd("users", "create", "--role=reader", env=env)
    (created,) = creation.printed
    assert creation.errors == ""
    assert set(created) == {"account", "user", "role", "secret"}
    assert created["role"] == "reader"
    caller = await holder(users, created["secret"])
    assert (str(caller.account), str(caller.user)) == (created["account"], created["user"])

    rotation = await batchd("users", "rotate", created["user"], env=env)
    (rotated,) = rotation.printed
    assert rotation.errors == ""
    assert rotated == created | {"secret": rotated["secret"]}
    assert not await works(users, created["secret"])
    assert await works(users, rotated["secret"])

    disabled, changed = await asyncio.gather(
        batchd("users", "disable", created["user"], env=env),
        batchd("users", "set-role", created["user"], "operator", env=env),
    )
    assert disabled.printed == changed.printed == []
    assert changed.errors == ""
    assert not await works(users, rotated["secret"])

    listed = await batchd("users", "list", env=env)
    (row,) = listed.printed
    assert (row["user"], row["role"]) == (created["user"], "operator")
    assert row["created_ts"] <= row["disabled_ts"] <= time.time()
    assert created["secret"] not in listed.output
    assert rotated["secret"] not in listed.output


async def test_user_is_created_with_the_given_options(env: Mapping[str, str], users: Users) -> None:
    account, end = uuid4(), int(time.time()) + 3600
    await users.create(account=None, role="admin", name="of another account")
    more = (f"--account={account}", "--name=Ada Lovelace ✓", f"--validity-ts={end}")
    (created,) = (await batchd("users", "create", "--role=submitter", *more, env=env)).printed

    assert set(created) == {"account", "user", "role", "secret", "validity_ts"}
    assert (created["account"], created["validity_ts"]) == (str(account), end)
    rotated, listed = await asyncio.gather(
        batchd("users", "rotate", created["user"], f"--old-until={end - 60}", env=env),
        batchd("users", "list", f"--account={account}", env=env),
    )
    assert await works(users, created["secret"])
    assert await works(users, rotated.printed[0]["secret"])
    (row,) = listed.printed
    assert set(row) == {"account", "user", "role", "name", "created_ts", "disabled_ts"}
    assert (row["user"], row["name"]) == (created["user"], "Ada Lovelace ✓")
    assert row["disabled_ts"] is None


async def test_new_secret_of_a_disabled_user_causes_a_warning(
    env: Mapping[str, str], users: Users
) -> None:
    user = (await users.create(account=None, role="reader", name="")).user.user
    await users.disable(user)
    rotated = await batchd("users", "rotate", user, env=env)

    assert rotated.errors == (
        "batchd: the user is disabled, so no secret of it works, not this one either\n"
    )
    assert not await works(users, rotated.printed[0]["secret"])


async def test_role_without_a_policy_causes_a_warning(
    env: Mapping[str, str], users: Users, tmp_path: Path
) -> None:
    """Nor does one that is about another account."""
    user = (await users.create(account=None, role="clerk", name="")).user.user
    write_policy(tmp_path, "p, clerk, *, *, allow", f"p, partner, {uuid4()}, *, allow")
    env = {**env, "BATCHD_POLICIES": str(tmp_path)}
    created, changed = await asyncio.gather(
        batchd("users", "create", "--role=clark", env=env),
        batchd("users", "set-role", user, "partner", env=env),
    )

    for results, role in ((created, "clark"), (changed, "partner")):
        assert results.errors == (
            f"batchd: no policy names the role '{role}' in this account: it may do nothing\n"
        )
    assert await works(users, created.printed[0]["secret"])
    assert (await users.current(user)).role == "partner"


async def test_user_is_created_without_policies(
    env: Mapping[str, str], users: Users, tmp_path: Path
) -> None:
    env = {**env, "BATCHD_POLICIES": str(tmp_path / "nowhere")}
    created = await batchd("users", "create", "--role=clerk", env=env)

    assert await works(users, created.printed[0]["secret"])
    assert created.errors.startswith(
        "batchd: whether there is a role 'clerk' could not be looked up: "
    )
    assert "can't read the policy folder" in created.errors


async def test_failure_is_reported_in_one_line(env: Mapping[str, str]) -> None:
    unknown = uuid4()
    results = await asyncio.gather(
        batchd("users", "rotate", unknown, env=env),
        batchd("users", "disable", unknown, env=env),
    )

    assert {(result.code, result.output, result.errors) for result in results} == {
        (1, "", f"batchd: There is no user {unknown}.\n")
    }


async def test_malformed_command_is_explained(env: Mapping[str, str]) -> None:
    results = await batchd("users", "create", "--account=mine", env=env)

    assert (results.code, results.output) == (2, "")
    assert "valid UUID" in results.errors
