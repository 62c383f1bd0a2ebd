"""The start of `batchd` with a database that is down, refuses it, or has an old schema."""

from collections.abc import Mapping

import asyncpg
import pytest

from batchd.configuration import InvalidSettings
from batchd.db.migrations import required_versions
from batchd.settings import read_core_settings
from tests.support.command import batchd
from tests.support.starting import (
    INVALID_SETTINGS,
    SECRET,
    UNAVAILABLE,
    assert_refused,
    port_in_use,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_old_schema_is_refused(
    env: Mapping[str, str], empty_database_url: str, command: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": empty_database_url}
    result = await batchd(command, env=env)

    assert_refused(result, "batchd migrate", *required_versions(), env=env)


async def test_schema_that_lacks_one_migration_is_refused(env: Mapping[str, str]) -> None:
    last = max(required_versions())
    connection = await asyncpg.connect(env["BATCHD_DATABASE_URL"])
    await connection.execute("DELETE FROM schema_migrations WHERE version = $1", last)
    await connection.close()

    result = await batchd("users", "list", env=env)

    assert_refused(result, "batchd migrate", last, env=env)
    assert min(required_versions()) not in result.errors


async def test_database_that_does_not_respond_is_reported(env: Mapping[str, str]) -> None:
    with port_in_use() as port:
        pass
    url = f"postgresql://batchd:hidden@127.0.0.1:{port}/batchd"
    env = {**env, "BATCHD_DATABASE_URL": url}
    result = await batchd("worker", env=env)

    named = ("BATCHD_DATABASE_URL", "database is not responding", f"127.0.0.1:{port}")
    assert_refused(result, *named, env=env, code=UNAVAILABLE)
    assert "hidden" not in result.errors


COMMANDS = [("api",), ("worker",), ("migrate",), ("users", "list"), ("accounts", "list")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_wrong_password_is_refused(
    env: Mapping[str, str], database_url: str, command: tuple[str, ...]
) -> None:
    credentials, _, server = database_url.rpartition("@")
    url = f"{credentials.rpartition(':')[0]}:{SECRET}@{server}"
    env = {**env, "BATCHD_DATABASE_URL": url}
    result = await batchd(*command, env=env)

    named = ("BATCHD_DATABASE_URL", "password authentication failed")
    assert_refused(result, *named, env=env, code=INVALID_SETTINGS)
    assert len(result.errors.splitlines()) == 1
    assert SECRET not in result.errors


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_unknown_database_is_refused(
    env: Mapping[str, str], database_url: str, command: tuple[str, ...]
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": f"{database_url}_missing"}
    result = await batchd(*command, env=env)

    assert_refused(result, "BATCHD_DATABASE_URL", "does not exist", env=env, code=INVALID_SETTINGS)
    assert len(result.errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u:pa-ss-word@db/x", "must be a URL like postgresql://"),
        ("host=db password=pa-ss-word", "white space"),
        ("postgresql://u:pa-ss-word#1@db/x", "a raw '#'"),
        ("postgresql://u:pa-ss-word%1@db/x", "a raw '%'"),
        ("postgresql://u:pa-ss-word@1@db/x", "a raw '@'"),
        ("postgresql://u:pa-ss-word/1@db/x", "a raw '/'"),
        ("postgresql://u:pa-ss-word?1@db/x", "a raw '?'"),
        ("postgresql://u:pa-ss-word[1@db/x", "a raw '['"),
        ("postgresql://u:pa-ss-word@db:99999/x", "a port must be a number from 1 to 65535"),
        ("postgresql://u:pa-ss-word@db:port/x", "a port must be a number from 1 to 65535"),
        ("postgresql://u:pa-ss-word@db/x?sslmode", "name=value"),
        ("postgresql://u:pa-ss-word@db/x?sslmode=no-verify", "sslmode must be one of"),
        ("postgresql://u:pa-ss-word@db/x?channel_binding=require", "'channel_binding'"),
        ("postgresql://u:pa-ss-word@db/x?target_session_attrs=standby", "target_session_attrs"),
        ("postgresql://u:pa-ss-word@db/x?sslrootcert=/no/such.crt", "'sslrootcert'"),
    ],
)
def test_invalid_database_url_is_refused_without_revealing_the_password(
    url: str, reason: str
) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        read_core_settings({"BATCHD_DATABASE_URL": url})

    assert str(refusal.value).startswith("BATCHD_DATABASE_URL: ")
    assert reason in str(refusal.value)
    assert "ss-word" not in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


async def test_parameter_that_the_server_does_not_know_is_refused(
    env: Mapping[str, str], database_url: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": f"{database_url}?no_such=1"}
    result = await batchd("users", "list", env=env)

    assert_refused(result, "BATCHD_DATABASE_URL", "no_such", env=env, code=INVALID_SETTINGS)


@pytest.mark.parametrize("command", ["api", "migrate"])
async def test_tls_that_the_server_does_not_offer_is_refused(
    env: Mapping[str, str], database_url: str, command: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": f"{database_url}?sslmode=require"}
    result = await batchd(command, env=env)

    assert_refused(result, "BATCHD_DATABASE_URL", "SSL", env=env, code=UNAVAILABLE)
