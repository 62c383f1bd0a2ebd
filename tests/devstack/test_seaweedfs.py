"""The embedded S3 server: start, stop, persistence, and what remains afterwards."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import stat
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path

import aiohttp
import psutil
import pytest

from batchd.devstack.errors import StackFailed
from batchd.devstack.port_reservation import PortReservation
from batchd.devstack.seaweedfs import SeaweedFS, run_seaweedfs
from batchd.devstack.weed_ports import choose_ports, socket_paths
from tests.support.polling import TIMEOUT_S
from tests.support.s3_storage import open_storage, size_of
from tests.support.waiting import has_exited, until

pytestmark = pytest.mark.slow

LISTENER_COUNT = 10
"""Five components, each with a port for HTTP and one for gRPC."""

STARTER = """
import asyncio, sys
from pathlib import Path
from batchd.devstack.seaweedfs import run_seaweedfs

async def main():
    async with run_seaweedfs(Path(sys.argv[1])) as server:
        print(server.pid, server.endpoint, flush=True)
        await server.wait()

asyncio.run(main())
"""


async def write(server: SeaweedFS, key: str, data: bytes) -> None:
    async with open_storage(server) as storage, storage.write(key) as writer:
        await writer.write(data)


async def read(server: SeaweedFS, key: str) -> bytes:
    async with open_storage(server) as storage, storage.read(key) as pieces:
        return b"".join([piece async for piece in pieces])


def listeners(pid: int) -> list[str]:
    connections = psutil.Process(pid).net_connections(kind="inet")
    return [
        connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN
    ]


def remaining_sockets(data_dir: Path) -> list[Path]:
    """Return the socket_paths that this folder's server has left outside of it."""
    ports = json.loads((data_dir / "ports.json").read_text())
    return [path for path in socket_paths(ports.values()) if path.exists()]


async def test_second_start_keeps_objects_keys_and_address(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "a folder with spaces" / "ünd more"
    async with run_seaweedfs(data_dir, bucket="first") as first:
        await write(first, "a/b", b"data")
    async with run_seaweedfs(data_dir, bucket="first") as second:
        assert await read(second, "a/b") == b"data"
    assert (second.endpoint, second.access_key, second.secret_key) == (
        first.endpoint,
        first.access_key,
        first.secret_key,
    )


async def test_objects_survive_a_change_of_ports(tmp_path: Path) -> None:
    async with run_seaweedfs(tmp_path) as first:
        await write(first, "large", b"x" * 20_000_000)
    (tmp_path / "ports.json").unlink()
    async with run_seaweedfs(tmp_path) as second:
        assert second.endpoint != first.endpoint
        assert len(await read(second, "large")) == 20_000_000
        await write(second, "more", b"new")
        async with open_storage(second) as storage:
            assert await size_of(storage, "more") == 3


async def test_servers_run_side_by_side(tmp_path: Path) -> None:
    async with (
        run_seaweedfs(tmp_path / "one") as first,
        run_seaweedfs(tmp_path / "two") as second,
    ):
        assert first.endpoint != second.endpoint
        assert first.secret_key != second.secret_key
        await write(first, "key", b"one")
        await write(second, "key", b"two")
        assert await read(first, "key") == b"one"
        assert await read(second, "key") == b"two"
    assert has_exited(first.pid)
    assert has_exited(second.pid)
    assert remaining_sockets(tmp_path / "one") == remaining_sockets(tmp_path / "two") == []


async def test_server_is_accessible_to_this_machine_and_user_only(tmp_path: Path) -> None:
    async with run_seaweedfs(tmp_path) as server:
        until(lambda: len(listeners(server.pid)) == LISTENER_COUNT)
        assert set(listeners(server.pid)) == {"127.0.0.1"}
        assert "-master.telemetry=false" in psutil.Process(server.pid).cmdline()
    assert stat.S_IMODE((tmp_path / "s3.json").stat().st_mode) == 0o600
    assert server.secret_key not in repr(server)


def object_paths(server: SeaweedFS) -> list[str]:
    """Return the paths under which the ports of such a server know an object, or all of them."""
    return [
        f"/{server.bucket}/key",  # S3
        f"/buckets/{server.bucket}/key",  # the filer
        f"/buckets/{server.bucket}/?recursive=true",
        "/1,01",  # the volumes, by number
        f"/col/delete?collection={server.bucket}",  # the master
        "/dir/assign",
        f"/{server.bucket}?list-type=2",
    ]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_no_port_gives_or_takes_objects_without_credentials(
    tmp_path: Path, method: str
) -> None:
    async with run_seaweedfs(tmp_path) as server, aiohttp.ClientSession() as browser:
        await write(server, "key", b"the secret of an object")
        until(lambda: len(listeners(server.pid)) == LISTENER_COUNT)
        ports = json.loads((tmp_path / "ports.json").read_text())
        urls = [
            f"http://127.0.0.1:{port}{path}"
            for name, port in ports.items()
            if not name.endswith(".grpc")
            for path in object_paths(server)
        ]
        statuses: dict[str, int] = {}
        bodies = b""
        for url in urls:
            async with browser.request(method, url, data=b"forged") as response:
                statuses[url] = response.status
                bodies += await response.read()

        assert {url: status for url, status in statuses.items() if status < 400} == {}
        assert b"the secret of an object" not in bodies
        assert await read(server, "key") == b"the secret of an object"


async def test_given_port_is_used(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(StackFailed, match=f"{port}.*in use"):
            async with run_seaweedfs(tmp_path, port=port):
                pytest.fail("it started")
    async with run_seaweedfs(tmp_path, port=port) as server:
        assert server.endpoint == f"http://127.0.0.1:{port}"


async def test_folder_in_use_is_refused(tmp_path: Path) -> None:
    async with run_seaweedfs(tmp_path):
        with pytest.raises(StackFailed, match="in use"):
            async with run_seaweedfs(tmp_path):
                pytest.fail("it started")


async def test_error_of_a_failed_start_contains_the_server_log(tmp_path: Path) -> None:
    (tmp_path / "filerldb2").write_text("the server expects a folder here")
    with pytest.raises(StackFailed, match=re.compile("failed to start.*filerldb2", re.DOTALL)):
        async with run_seaweedfs(tmp_path):
            pytest.fail("it started")


async def test_killed_server_is_detected_and_loses_no_data(tmp_path: Path) -> None:
    async with run_seaweedfs(tmp_path) as server:
        await write(server, "key", b"x" * 20_000_000)
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(TIMEOUT_S):
            assert await server.wait() == -signal.SIGKILL
    async with run_seaweedfs(tmp_path) as server:
        assert await read(server, "key") == b"x" * 20_000_000


async def test_server_does_not_outlive_its_killed_parent(tmp_path: Path) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout is not None
    pid, endpoint = (await starter.stdout.readline()).decode().split()
    starter.kill()
    await starter.wait()
    until(lambda: has_exited(int(pid)))
    async with run_seaweedfs(tmp_path) as server:
        assert server.endpoint == endpoint
        await write(server, "key", b"data")
    assert remaining_sockets(tmp_path) == []


async def test_servers_that_start_at_the_same_moment_get_different_ports(tmp_path: Path) -> None:
    """Even where both have had the same ones the last time."""
    with PortReservation() as reservation:
        choose_ports(tmp_path / "ports.json", reservation, s3_port=None, fresh=True)
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
        shutil.copy(tmp_path / "ports.json", folder)
    async with AsyncExitStack() as exits:
        servers = await asyncio.gather(
            *(exits.enter_async_context(run_seaweedfs(folder)) for folder in folders)
        )
        for server in servers:
            await write(server, "key", server.endpoint.encode())
        for server in servers:
            assert await read(server, "key") == server.endpoint.encode()


async def test_port_that_another_program_takes_during_the_start_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intruders: list[socket.socket] = []

    def choose_and_lose(
        path: Path, reservation: PortReservation, *, s3_port: int | None, fresh: bool
    ) -> dict[str, int]:
        ports = choose_ports(path, reservation, s3_port=s3_port, fresh=fresh)
        if not fresh:
            intruders.append(socket.create_server(("127.0.0.1", ports["volume"])))
        return ports

    monkeypatch.setattr("batchd.devstack.seaweedfs.choose_ports", choose_and_lose)
    async with run_seaweedfs(tmp_path) as server:
        await write(server, "key", b"works")
    (intruder,) = intruders
    intruder.close()
