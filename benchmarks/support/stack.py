"""The stack for the benchmarks: embedded PostgreSQL and S3, API and worker processes."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import aiohttp

from batchd.bootstrap import open_users
from batchd.configuration import to_environment
from batchd.db.migrations import migrate
from batchd.devstack.ports import reserve_port
from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.replicated_pair import ReplicatedPair
from batchd.devstack.seaweedfs import run_seaweedfs
from batchd.devstack.standby import run_standby
from batchd.domain.ids import AccountId
from batchd.settings import read_core_settings

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class User:
    account: str
    secret: str


@dataclass
class Stack:
    folder: Path
    env: dict[str, str]
    port: int
    exits: AsyncExitStack
    database: AsyncExitStack
    database_port: int
    primary: Postgres | None = None
    standby: Postgres | None = None
    processes: list[Process] = field(default_factory=list)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(
        self, kind: str, *, program: Sequence[str] = ("-m", "batchd.cli"), **settings: object
    ) -> Process:
        """Start `batchd api` or `batchd worker`; its log goes to `<kind>-<n>.log` in the folder.

        `program` replaces batchd's own command.
        """
        log = self.folder / f"{kind}-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", *program, kind),
                env={**self.env, **to_environment(settings)},
                stdout=output,
                stderr=output,
            )
        self.processes.append(process)
        return process

    async def user(self, account: str | None = None) -> User:
        """Make an admin, of a new account if none is given."""
        async with open_users(read_core_settings(self.env)) as users:
            created = await users.create(
                account=None if account is None else AccountId(UUID(account)),
                role="admin",
                name="",
            )
        return User(str(created.user.account), created.secret)

    async def until_ready(self) -> None:
        async with asyncio.timeout(60), aiohttp.ClientSession(self.api_url) as session:
            while True:
                try:
                    async with session.get("/readyz") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def restart_database(self, *, down_s: float = 0.0) -> None:
        await self.database.aclose()
        await asyncio.sleep(down_s)
        await self._start_database()

    async def _start_database(self) -> Postgres:
        self.primary = await self.database.enter_async_context(
            run_postgres(self.folder / "postgres", port=self.database_port)
        )
        return self.primary

    def replicated_pair(self) -> ReplicatedPair:
        """Return the running primary and its standby."""
        assert self.primary is not None, "PostgreSQL is not running"
        assert self.standby is not None, "the stack was started without a standby"
        return ReplicatedPair(primary=self.primary, standby=self.standby)

    def logs(self, kind: str) -> list[str]:
        """Return the log lines of all processes of this kind, killed ones included."""
        paths = self.folder.glob(f"{kind}-*.log")
        return [line for path in paths for line in path.read_text().splitlines()]


@asynccontextmanager
async def run_stack(*, with_standby: bool = False, **settings: object) -> AsyncIterator[Stack]:
    """Run PostgreSQL and S3; the benchmark starts processes, which get these settings.

    With a standby, they know both servers and use the one that takes writes.
    """
    with TemporaryDirectory(prefix="batchd-bench-") as name:
        folder = Path(name)
        async with AsyncExitStack() as exits:
            port = exits.enter_context(reserve_port(0))
            s3 = await exits.enter_async_context(run_seaweedfs(folder / "s3"))
            with reserve_port(0) as database_port:
                pass
            stack = Stack(folder, {}, port, exits, AsyncExitStack(), database_port)
            primary = await stack._start_database()  # noqa: SLF001
            exits.push_async_callback(stack.database.aclose)
            url = primary.url
            await migrate(url)
            if with_standby:
                stack.standby = await exits.enter_async_context(
                    run_standby(primary, folder / "standby")
                )
                url = f"{stack.replicated_pair().url}?target_session_attrs=read-write"
            fields = {
                "database_url": url,
                "s3_endpoint": s3.endpoint,
                "s3_access_key": s3.access_key,
                "s3_secret_key": s3.secret_key,
                "s3_bucket": s3.bucket,
                "policies": ROOT / "policies",
                "listen": f"127.0.0.1:{port}",
                "log_level": "WARNING",
                **settings,
            }
            stack.env = {**os.environ, **to_environment(fields)}
            # An installation has bytecode. Without it, compilation takes half of the start.
            stack.env.pop("PYTHONDONTWRITEBYTECODE", None)
            exits.push_async_callback(_stop, stack)
            yield stack


async def _stop(stack: Stack) -> None:
    for process in stack.processes:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
    for process in stack.processes:
        await process.wait()
