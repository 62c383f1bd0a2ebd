"""How `batchd` starts, and what it says when it refuses to: one clear message, exit code 1."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import asyncpg

from batchd.db.migrations import required_versions
from batchd.settings import Settings
from tests.support.command import Ended, batchd, environment
from tests.support.dev_process import BATCHD
from tests.support.polling import eventually


def assert_refused(ended: Ended, *named: str, settings: Settings | None = None) -> None:
    """Hold the end against what a person needs: what is wrong, without a traceback or a secret."""
    assert (ended.code, ended.output) == (1, ""), ended
    assert ended.errors.startswith("batchd: "), ended
    assert "Traceback" not in ended.errors
    for name in named:
        assert name in ended.errors
    if settings is not None:
        assert settings.database_url.get_secret_value() not in ended.errors


async def each(*commands: str, env: dict[str, str]) -> list[Ended]:
    return await asyncio.gather(*(batchd(*command.split(), env=env) for command in commands))


def environment_of(settings: Settings, **changes: object) -> dict[str, str]:
    """Return the environment of a process that logs nothing but what is serious."""
    return environment(settings, log_level="ERROR", **changes)


@contextmanager
def taken_port() -> Iterator[int]:
    """Listen as some other program does, which shares its port with nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@asynccontextmanager
async def running(env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
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


async def test_missing_settings_are_named() -> None:
    for ended in await each("api", "migrate", env=environment(None)):
        assert_refused(ended, "BATCHD_DATABASE_URL", "BATCHD_S3_BUCKET")


async def test_impossible_settings_are_named(settings: Settings) -> None:
    env = environment_of(settings, database_pool="none", lease_s=0, s3_addressing="dns")
    ended = await batchd("worker", env=env)

    names = ("BATCHD_DATABASE_POOL", "BATCHD_LEASE_S", "BATCHD_S3_ADDRESSING")
    assert_refused(ended, *names, settings=settings)
    assert len(ended.errors.splitlines()) == len(names)


async def test_an_old_schema_is_refused(settings: Settings, empty_database_url: str) -> None:
    env = environment_of(settings, database_url=empty_database_url)
    for ended in await each("api", "worker", env=env):
        assert_refused(ended, "batchd migrate", *required_versions(), settings=settings)


async def test_a_schema_that_lacks_one_migration_is_refused(settings: Settings) -> None:
    last = max(required_versions())
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await connection.execute("DELETE FROM schema_migrations WHERE version = $1", last)
    await connection.close()

    ended = await batchd("users", "list", env=environment_of(settings))

    assert_refused(ended, "batchd migrate", last)
    assert min(required_versions()) not in ended.errors


async def test_several_migrate_at_once_and_later_ones_find_nothing_to_do(
    settings: Settings, empty_database_url: str
) -> None:
    env = environment_of(settings, database_url=empty_database_url)
    for commands in (["migrate"] * 4, ["migrate"]):
        for ended in await each(*commands, env=env):
            assert (ended.code, ended.output, ended.errors) == (0, "", "")
        assert await versions(empty_database_url) == required_versions()


async def test_a_database_that_does_not_answer_is_said(settings: Settings) -> None:
    with taken_port() as port:
        pass
    url = f"postgresql://batchd:hidden@127.0.0.1:{port}/batchd"
    ended = await batchd("worker", env=environment_of(settings, database_url=url))

    assert_refused(ended, "database is not responding")
    assert "hidden" not in ended.errors


async def test_an_unknown_plugin_is_refused(settings: Settings) -> None:
    authorizer, storage = await asyncio.gather(
        batchd("api", env=environment_of(settings, authorizer="no_such")),
        batchd("worker", env=environment_of(settings, storage="none_such")),
    )

    assert_refused(authorizer, "no_such", "casbin", settings=settings)
    assert_refused(storage, "none_such", "s3", settings=settings)


async def test_a_bad_policy_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    missing, empty, bad = tmp_path / "missing", tmp_path / "empty", tmp_path / "bad"
    empty.mkdir()
    bad.mkdir()
    (bad / "model.conf").write_text((settings.policies / "model.conf").read_text())
    (bad / "roles.csv").write_text("p, reader, *, get_batch, perhaps\n")

    ended = await asyncio.gather(
        batchd("api", env=environment_of(settings, policies=missing)),
        batchd("worker", env=environment_of(settings, policies=empty)),
        batchd("api", env=environment_of(settings, policies=bad)),
    )

    for one, folder in zip(ended, (missing, empty, bad), strict=True):
        assert_refused(one, str(folder), settings=settings)
    assert "roles.csv" in ended[2].errors
    assert "perhaps" in ended[2].errors


async def test_a_port_in_use_is_refused(settings: Settings) -> None:
    with taken_port() as port:
        ended = await batchd("api", env=environment_of(settings, listen=f"127.0.0.1:{port}"))

    assert_refused(ended, "127.0.0.1", str(port), "already in use", settings=settings)


async def test_two_api_processes_share_a_port_and_end_when_asked_to(
    settings: Settings, session: aiohttp.ClientSession
) -> None:
    with taken_port() as port:
        pass
    env = environment_of(settings, listen=f"127.0.0.1:{port}")

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
