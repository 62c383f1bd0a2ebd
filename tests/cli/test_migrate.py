"""`batchd migrate`: concurrent runs, waiting, the URL, and termination."""

import asyncio
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest

from batchd.db.migrations import required_versions
from tests.support.command import CommandResult, batchd
from tests.support.dev_process import BATCHD
from tests.support.polling import eventually
from tests.support.starting import SECRET, TERMINATED, UNAVAILABLE, assert_refused, port_in_use
from tests.support.waiting import has_exited

pytestmark = pytest.mark.slow


async def versions(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT version FROM schema_migrations")
    finally:
        await connection.close()
    return {row["version"] for row in rows}


async def test_concurrent_migrations_apply_the_schema_once(
    env: Mapping[str, str], empty_database_url: str
) -> None:
    env = {**env, "BATCHD_DATABASE_URL": empty_database_url}
    done = CommandResult(code=0, output="", errors="")

    assert await asyncio.gather(*(batchd("migrate", env=env) for _ in range(4))) == [done] * 4
    assert await versions(empty_database_url) == required_versions()
    assert await batchd("migrate", env=env) == done
    assert await versions(empty_database_url) == required_versions()


async def test_migrate_reports_what_it_waits_for_and_gives_up(
    env: Mapping[str, str],
) -> None:
    with port_in_use() as port:
        pass
    url = f"postgresql://batchd:{SECRET}@127.0.0.1:{port}/batchd"
    env = {**env, "BATCHD_DATABASE_URL": url, "BATCHD_LOG_LEVEL": "WARNING"}
    started = time.monotonic()
    result = await batchd("migrate", env=env)

    assert time.monotonic() - started < 30
    assert_refused(result, "BATCHD_DATABASE_URL", str(port), env=env, code=UNAVAILABLE)
    assert '"waiting: BATCHD_DATABASE_URL: ' in result.errors
    assert SECRET not in result.errors


async def test_migrate_uses_the_direct_url(env: Mapping[str, str], empty_database_url: str) -> None:
    unreachable_url = "postgresql://batchd@127.0.0.1:1/batchd"
    env = {
        **env,
        "BATCHD_DATABASE_URL": unreachable_url,
        "BATCHD_DATABASE_DIRECT_URL": empty_database_url,
    }

    assert await batchd("migrate", env=env) == CommandResult(code=0, output="", errors="")
    assert await versions(empty_database_url) == required_versions()


def children_of(pid: int, *, program: str) -> list[int]:
    """Return the children that run the program: a library may start another one at import."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in listed.split() if program in command_line(int(child))]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def test_terminating_migrate_leaves_no_child(env: Mapping[str, str]) -> None:
    blocker = await asyncpg.connect(env["BATCHD_DATABASE_URL"])
    await blocker.execute("BEGIN; LOCK TABLE schema_migrations IN ACCESS EXCLUSIVE MODE")
    process = await asyncio.create_subprocess_exec(
        *BATCHD, "migrate", env=env, stderr=asyncio.subprocess.DEVNULL
    )

    async def children() -> list[int]:
        return children_of(process.pid, program="dbmate")

    try:
        (child,) = await eventually(children, lambda pids: len(pids) == 1)
        process.send_signal(signal.SIGTERM)

        assert await process.wait() == TERMINATED
        # Where it outlived the command for a moment, init may take another to clear it up.
        await eventually(lambda: asyncio.to_thread(has_exited, child), bool)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await blocker.close()
