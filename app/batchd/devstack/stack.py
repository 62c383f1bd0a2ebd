"""The whole of batchd on one machine: PostgreSQL, S3, API and worker processes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from batchd.db.migrations import migrate
from batchd.devstack.errors import StackFailed
from batchd.devstack.first_user import FirstUser, first_user
from batchd.devstack.guard import Guard
from batchd.devstack.locking import hold_lock
from batchd.devstack.ports import HOST, hold_port
from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.processes import Child, run_child
from batchd.devstack.readiness import until_ready
from batchd.devstack.seaweedfs import SeaweedFS, run_seaweedfs
from batchd.devstack.upstream import URL_VARIABLE, example_operations, run_upstream
from batchd.settings import to_environment

READY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    port: int
    """0 is any free one."""
    data_dir: Path
    policies: Path
    operations: Path | None
    """The example's: its upstream is started, too."""
    api_processes: int
    workers: int
    ready_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Everything is up."""

    api_url: str
    policies: Path
    user: FirstUser
    postgres: Postgres
    s3: SeaweedFS
    api: list[Child]
    worker: list[Child]
    env: Mapping[str, str] = field(repr=False)
    """The variables with which other processes join."""


@asynccontextmanager
async def run_stack(options: StackOptions, guard: Guard) -> AsyncIterator[Stack]:
    """Run everything; on leaving, stop it: API, workers, then S3 and PostgreSQL.

    What dies meanwhile makes the guard stop us. Raises StackFailed, MigrationFailed.
    """
    policies = options.policies.resolve()
    if not policies.is_dir():
        raise StackFailed(f"There is no folder {policies}; name the policies with --policies.")
    operations = options.operations and options.operations.resolve()
    if operations is not None and not operations.is_file():
        raise StackFailed(f"There is no file {operations}; name another with --operations.")
    data_dir = options.data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    logs = data_dir / "logs"
    logs.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hold_lock(data_dir / "lock"))
        # One of a stack that was killed; another's, still running, would have kept us out.
        if options.ready_file is not None:
            options.ready_file.unlink(missing_ok=True)
        port = stack.enter_context(hold_port(options.port))
        async with together() as group:
            postgres_task = group.create_task(_database(stack, guard, data_dir / "postgres"))
            s3_task = group.create_task(_storage(stack, guard, data_dir / "s3"))
            upstream_task = group.create_task(_upstream(stack, guard, logs, operations))
        postgres, s3 = postgres_task.result(), s3_task.result()
        env = to_environment(
            {
                "database_url": postgres.url,
                "s3_endpoint": s3.endpoint,
                "s3_access_key": s3.access_key,
                "s3_secret_key": s3.secret_key,
                "s3_bucket": s3.bucket,
                "policies": policies,
                "listen": f"{HOST}:{port}",
                **({} if operations is None else {"operations": operations}),
            }
        )
        env |= upstream_task.result()
        env["PROMETHEUS_MULTIPROC_DIR"] = str(_emptied(data_dir / "metrics"))
        whole_env = {**os.environ, **env}
        workers = await _several(stack, guard, "worker", options.workers, logs, whole_env)
        apis = await _several(stack, guard, "api", options.api_processes, logs, whole_env)
        api_url = f"http://{HOST}:{port}"
        memory = data_dir / "admin.json"
        async with together() as group:
            user_task = group.create_task(first_user(memory, whole_env))
            group.create_task(until_ready("The API", api_url, "/readyz", within_s=READY_S))
        user = user_task.result()
        await _check_secret(api_url, user, memory)
        yield Stack(
            api_url=api_url,
            policies=policies,
            user=user,
            postgres=postgres,
            s3=s3,
            api=apis,
            worker=workers,
            env=env,
        )


def _emptied(folder: Path) -> Path:
    """Return the folder where the processes share their metrics, without those of the last time."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.db"):
        path.unlink()
    return folder


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks at the same time; the first that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _database(stack: AsyncExitStack, guard: Guard, data_dir: Path) -> Postgres:
    postgres = await stack.enter_async_context(run_postgres(data_dir))
    await stack.enter_async_context(guard.watching("postgres", postgres.wait, postgres.log))
    await migrate(postgres.url)
    return postgres


async def _storage(stack: AsyncExitStack, guard: Guard, data_dir: Path) -> SeaweedFS:
    s3 = await stack.enter_async_context(run_seaweedfs(data_dir))
    await stack.enter_async_context(guard.watching("s3", s3.wait, s3.log))
    return s3


async def _upstream(
    stack: AsyncExitStack, guard: Guard, logs: Path, operations: Path | None
) -> dict[str, str]:
    """Run what the example's operations call, if they are those in force; return its variable."""
    if operations is None or operations != example_operations():
        return {}
    log = logs / "upstream.log"
    return {URL_VARIABLE: await stack.enter_async_context(run_upstream(guard, log, os.environ))}


async def _several(
    stack: AsyncExitStack, guard: Guard, kind: str, count: int, logs: Path, env: Mapping[str, str]
) -> list[Child]:
    """Start `batchd <kind>` that many times; they stop at the same time, too."""
    contexts = [_one(guard, kind, logs / f"{kind}-{n}.log", env) for n in range(1, count + 1)]
    return await stack.enter_async_context(_side_by_side(contexts))


@asynccontextmanager
async def _one(guard: Guard, kind: str, log: Path, env: Mapping[str, str]) -> AsyncIterator[Child]:
    # -P: nothing in the current folder is taken for a module.
    command = [sys.executable, "-P", "-m", "batchd.cli", kind]
    async with (
        run_child(log.stem, command, log=log, env=env) as child,
        guard.watching(child.name, child.process.wait, log),
    ):
        yield child


@asynccontextmanager
async def _side_by_side(
    contexts: Sequence[AbstractAsyncContextManager[Child]],
) -> AsyncIterator[list[Child]]:
    stacks = [AsyncExitStack() for _ in contexts]
    try:
        yield [
            await stack.enter_async_context(context)
            for stack, context in zip(stacks, contexts, strict=True)
        ]
    finally:
        await asyncio.gather(*(stack.aclose() for stack in stacks))


async def _check_secret(api_url: str, user: FirstUser, memory: Path) -> None:
    headers = {"Authorization": user.secret}
    try:
        async with (
            aiohttp.ClientSession(api_url, headers=headers) as session,
            session.get("/whoami") as response,
        ):
            if response.status == 401:
                raise StackFailed(
                    f"The secret in {memory} is no longer taken. Remove this file: the next start "
                    "makes another account with an admin user."
                )
    except aiohttp.ClientError as error:
        raise StackFailed(f"The API does not answer: {error}") from error
