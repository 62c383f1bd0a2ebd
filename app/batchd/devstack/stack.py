"""The complete stack on one machine: PostgreSQL, S3, API and worker processes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from batchd.configuration import to_environment
from batchd.db.migrations import migrate
from batchd.devstack.errors import StackFailed
from batchd.devstack.first_user import FirstUser, load_or_create_user
from batchd.devstack.guard import ShutdownGuard
from batchd.devstack.locking import hold_lock
from batchd.devstack.ports import HOST, reserve_port
from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.processes import Child, run_child
from batchd.devstack.readiness import wait_until_ready
from batchd.devstack.seaweedfs import SeaweedFS, run_seaweedfs
from batchd.devstack.upstream import URL_VARIABLE, example_operations, run_upstream

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    port: int
    """0 means any free port."""
    data_dir: Path
    policies: Path
    operations: Path | None
    """If it is the example's file, the example's upstream is started as well."""
    api_processes: int
    workers: int
    ready_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack that is ready."""

    api_url: str
    policies: Path
    user: FirstUser
    postgres: Postgres
    s3: SeaweedFS
    api: list[Child]
    worker: list[Child]
    env: Mapping[str, str] = field(repr=False)
    """The environment variables for further processes of the stack."""


@asynccontextmanager
async def run_stack(options: StackOptions, guard: ShutdownGuard) -> AsyncIterator[Stack]:
    """Run everything; on leaving, stop the API, the workers, then S3 and PostgreSQL.

    A process that ends meanwhile triggers the guard. Raises StackFailed, MigrationFailed.
    """
    policies = options.policies.resolve()
    if not policies.is_dir():
        raise StackFailed(f"There is no folder {policies}; choose one with --policies.")
    operations = options.operations and options.operations.resolve()
    if operations is not None and not operations.is_file():
        raise StackFailed(f"There is no file {operations}; choose one with --operations.")
    data_dir = options.data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    logs = data_dir / "logs"
    logs.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hold_lock(data_dir / "lock"))
        # Left by a stack that was killed: one that is running would hold the lock.
        if options.ready_file is not None:
            options.ready_file.unlink(missing_ok=True)
        port = stack.enter_context(reserve_port(options.port))
        async with task_group() as group:
            postgres_task = group.create_task(_start_database(stack, guard, data_dir / "postgres"))
            s3_task = group.create_task(_start_storage(stack, guard, data_dir / "s3"))
            upstream_task = group.create_task(_start_upstream(stack, guard, logs, operations))
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
        env["PROMETHEUS_MULTIPROC_DIR"] = str(_create_metrics_folder(data_dir / "metrics"))
        full_env = {**os.environ, **env}
        workers = await _start_processes(stack, guard, "worker", options.workers, logs, full_env)
        apis = await _start_processes(stack, guard, "api", options.api_processes, logs, full_env)
        api_url = f"http://{HOST}:{port}"
        user_file = data_dir / "admin.json"
        async with task_group() as group:
            user_task = group.create_task(load_or_create_user(user_file, full_env))
            group.create_task(
                wait_until_ready("The API", api_url, "/readyz", timeout_s=READY_TIMEOUT_S)
            )
        user = user_task.result()
        await _check_secret(api_url, user, user_file)
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


def _create_metrics_folder(folder: Path) -> Path:
    """Return the folder in which the processes share their metrics, without those of past runs."""
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.db"):
        path.unlink()
    return folder


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks concurrently; the first failure cancels the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def _start_database(stack: AsyncExitStack, guard: ShutdownGuard, data_dir: Path) -> Postgres:
    postgres = await stack.enter_async_context(run_postgres(data_dir))
    await stack.enter_async_context(guard.watch_process("postgres", postgres.wait, postgres.log))
    await migrate(postgres.url)
    return postgres


async def _start_storage(stack: AsyncExitStack, guard: ShutdownGuard, data_dir: Path) -> SeaweedFS:
    s3 = await stack.enter_async_context(run_seaweedfs(data_dir))
    await stack.enter_async_context(guard.watch_process("s3", s3.wait, s3.log))
    return s3


async def _start_upstream(
    stack: AsyncExitStack, guard: ShutdownGuard, logs: Path, operations: Path | None
) -> dict[str, str]:
    """Start the example's upstream if the example's operations are used; return its variable."""
    if operations is None or operations != example_operations():
        return {}
    log = logs / "upstream.log"
    return {URL_VARIABLE: await stack.enter_async_context(run_upstream(guard, log, os.environ))}


async def _start_processes(
    stack: AsyncExitStack,
    guard: ShutdownGuard,
    kind: str,
    count: int,
    logs: Path,
    env: Mapping[str, str],
) -> list[Child]:
    """Start that many `batchd <kind>` processes, which are stopped concurrently."""
    contexts = [
        _run_process(guard, kind, logs / f"{kind}-{n}.log", env) for n in range(1, count + 1)
    ]
    return await stack.enter_async_context(_enter_all(contexts))


@asynccontextmanager
async def _run_process(
    guard: ShutdownGuard, kind: str, log: Path, env: Mapping[str, str]
) -> AsyncIterator[Child]:
    # -P: no module is imported from the current folder.
    command = [sys.executable, "-P", "-m", "batchd.cli", kind]
    async with (
        run_child(log.stem, command, log=log, env=env) as child,
        guard.watch_process(child.name, child.process.wait, log),
    ):
        yield child


@asynccontextmanager
async def _enter_all(
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


async def _check_secret(api_url: str, user: FirstUser, user_file: Path) -> None:
    headers = {"Authorization": user.secret}
    try:
        async with (
            aiohttp.ClientSession(api_url, headers=headers) as session,
            session.get("/whoami") as response,
        ):
            if response.status == 401:
                raise StackFailed(
                    f"The secret in {user_file} is no longer valid. Delete this file: the next "
                    "start creates another account with an admin user."
                )
    except aiohttp.ClientError as error:
        raise StackFailed(f"The API does not respond: {error}") from error
