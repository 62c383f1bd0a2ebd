"""How `batchd` starts, and what it says when it refuses to: one clear message, exit code 1."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from batchd.configuration import to_environment
from batchd.db.migrations import required_versions
from tests.support.command import Ended, batchd, environment
from tests.support.dev_process import BATCHD
from tests.support.policies import write_policy
from tests.support.polling import eventually

pytestmark = pytest.mark.slow


def assert_refused(ended: Ended, *named: str, env: Mapping[str, str]) -> None:
    """Hold the end against what a person needs: what is wrong, without a traceback or a secret."""
    assert (ended.code, ended.output) == (1, ""), ended
    assert ended.errors.startswith("batchd: "), ended
    assert "Traceback" not in ended.errors
    assert [name for name in named if name not in ended.errors] == [], ended
    assert env["BATCHD_DATABASE_URL"] not in ended.errors


@pytest.fixture
def env(process_environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of a process that logs nothing but what is serious."""
    return {**process_environment, "BATCHD_LOG_LEVEL": "ERROR"}


@contextmanager
def taken_port() -> Iterator[int]:
    """Listen as some other program does, which shares its port with nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@asynccontextmanager
async def running(env: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *BATCHD, "api", env=env, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def versions(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT version FROM schema_migrations")
    finally:
        await connection.close()
    return {row["version"] for row in rows}


@pytest.mark.parametrize("command", ["api", "migrate", "worker"])
async def test_a_missing_setting_is_named(command: str) -> None:
    ended = await batchd(command, env={**environment(), "BATCHD_DATABASE_URL": ""})

    assert ended.code == 1
    assert ended.errors == "batchd: BATCHD_DATABASE_URL: required, but not set\n"


async def test_a_missing_setting_of_a_plugin_is_named(env: Mapping[str, str]) -> None:
    without = {name: value for name, value in env.items() if name != "BATCHD_S3_BUCKET"}
    ended = await batchd("worker", env=without)

    assert ended.code == 1
    assert ended.errors == "batchd: BATCHD_S3_BUCKET: required, but not set\n"


async def test_impossible_settings_are_named(env: Mapping[str, str]) -> None:
    wrong = to_environment({"database_pool": "none", "lease_s": 0, "log_level": "LOUD"})
    ended = await batchd("worker", env={**env, **wrong})

    assert_refused(ended, *(f"{name}: Input should be" for name in wrong), env=env)
    assert len(ended.errors.splitlines()) == len(wrong)


async def test_impossible_settings_of_a_plugin_are_named(env: Mapping[str, str]) -> None:
    wrong = {"BATCHD_S3_ADDRESSING": "dns", "BATCHD_S3_REGION": "-"}
    ended = await batchd("worker", env={**env, **wrong})

    assert_refused(ended, *(f"{name}: " for name in wrong), env=env)
    assert len(ended.errors.splitlines()) == len(wrong)


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_an_old_schema_is_refused(
    env: Mapping[str, str], empty_database_url: str, command: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": empty_database_url}
    ended = await batchd(command, env=env)

    assert_refused(ended, "batchd migrate", *required_versions(), env=env)


async def test_a_schema_that_lacks_one_migration_is_refused(env: Mapping[str, str]) -> None:
    last = max(required_versions())
    connection = await asyncpg.connect(env["BATCHD_DATABASE_URL"])
    await connection.execute("DELETE FROM schema_migrations WHERE version = $1", last)
    await connection.close()

    ended = await batchd("users", "list", env=env)

    assert_refused(ended, "batchd migrate", last, env=env)
    assert min(required_versions()) not in ended.errors


async def test_several_migrate_at_once_and_later_ones_find_nothing_to_do(
    env: Mapping[str, str], empty_database_url: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": empty_database_url}
    done = Ended(code=0, output="", errors="")

    assert await asyncio.gather(*(batchd("migrate", env=env) for _ in range(4))) == [done] * 4
    assert await versions(empty_database_url) == required_versions()
    assert await batchd("migrate", env=env) == done
    assert await versions(empty_database_url) == required_versions()


async def test_a_database_that_does_not_answer_is_said(env: Mapping[str, str]) -> None:
    with taken_port() as port:
        pass
    url = f"postgresql://batchd:hidden@127.0.0.1:{port}/batchd"
    env = {**env, "BATCHD_DATABASE_URL": url}
    ended = await batchd("worker", env=env)

    assert_refused(ended, "database is not responding", env=env)
    assert "hidden" not in ended.errors


@pytest.mark.parametrize(
    ("command", "variable", "installed"),
    [("api", "BATCHD_AUTHORIZER", "casbin"), ("worker", "BATCHD_STORAGE", "s3")],
)
async def test_an_unknown_plugin_is_refused(
    env: Mapping[str, str], command: str, variable: str, installed: str
) -> None:
    ended = await batchd(command, env={**env, variable: "no_such"})

    assert_refused(ended, "no_such", installed, env=env)


@pytest.mark.parametrize("command", ["api", "worker"])
async def test_a_missing_policy_folder_is_refused(
    env: Mapping[str, str], tmp_path: Path, command: str
) -> None:
    ended = await batchd(command, env={**env, "BATCHD_POLICIES": str(tmp_path / "missing")})

    assert_refused(ended, str(tmp_path / "missing"), env=env)


async def test_an_empty_policy_folder_is_refused(env: Mapping[str, str], tmp_path: Path) -> None:
    ended = await batchd("worker", env={**env, "BATCHD_POLICIES": str(tmp_path)})

    assert_refused(ended, str(tmp_path), env=env)


async def test_a_bad_policy_is_refused(env: Mapping[str, str], tmp_path: Path) -> None:
    write_policy(tmp_path, "p, reader, *, get_batch, perhaps")
    ended = await batchd("api", env={**env, "BATCHD_POLICIES": str(tmp_path)})

    assert_refused(ended, str(tmp_path), "roles.csv", "perhaps", env=env)


async def test_a_port_in_use_is_refused(env: Mapping[str, str]) -> None:
    with taken_port() as port:
        ended = await batchd("api", env={**env, "BATCHD_LISTEN": f"127.0.0.1:{port}"})

    assert_refused(ended, "127.0.0.1", str(port), "already in use", env=env)


async def test_two_api_processes_share_a_port_and_end_when_asked_to(
    env: Mapping[str, str], session: aiohttp.ClientSession
) -> None:
    with taken_port() as port:
        pass
    env = {**env, "BATCHD_LISTEN": f"127.0.0.1:{port}"}

    async def ready() -> int:
        try:
            async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return 0

    async with running(env) as first, running(env) as second:
        assert await eventually(ready, lambda status: status == 200)
        for process in (first, second):
            process.send_signal(signal.SIGTERM)
        assert {await first.wait(), await second.wait()} == {0}
