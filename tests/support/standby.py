"""A streaming standby of an embedded PostgreSQL server, for tests of a failover."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.postgres_cluster import CLEAN_ENVIRONMENT, program_path, server_owner
from batchd.devstack.private_files import write_private
from batchd.devstack.processes import run_command

CATCH_UP_TIMEOUT_S = 60.0
_POLL_S = 0.02


@asynccontextmanager
async def run_standby(primary: Postgres, data_dir: Path) -> AsyncIterator[Postgres]:
    """Copy the primary into `data_dir` and run a hot standby that streams from it.

    Replication is asynchronous. The standby takes reads at once, and writes once it is promoted.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    cluster = data_dir / "cluster"
    cluster.mkdir(mode=0o700)
    owner = server_owner(cluster)
    if owner is not None:
        os.chown(cluster, owner.uid, owner.gid)
    await run_command(
        "pg_basebackup",
        [
            *(program_path("pg_basebackup"), "--dbname", primary.url, "--pgdata", cluster),
            # Writes standby.signal and primary_conninfo, with the password.
            *("--write-recovery-conf", "--wal-method=stream"),
            *("--checkpoint=fast", "--no-sync", "--no-manifest"),
        ],
        env=CLEAN_ENVIRONMENT,
        cwd=data_dir,
        owner=owner,
    )
    # Roles are replicated too.
    write_private(data_dir / "password", await _password_of(primary))
    async with run_postgres(data_dir, durable=False) as standby:
        yield standby


async def promote(standby: Postgres) -> None:
    """Make the standby a primary; return when it takes writes."""
    assert await _fetch_value(standby, "SELECT pg_promote(wait => true, wait_seconds => 60)")


async def wait_until_caught_up(standby: Postgres, primary: Postgres) -> None:
    """Return once the standby has replayed everything that the primary has written by now."""
    # Not pg_current_wal_lsn: without synchronous_commit, commits are written out a little later.
    position = await _fetch_value(primary, "SELECT pg_current_wal_insert_lsn()::text")
    async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
        while not await _fetch_value(
            standby, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position
        ):
            await asyncio.sleep(_POLL_S)


async def stop_streaming(standby: Postgres) -> None:
    """Cut the standby off: what the primary commits from now on is lost by its promotion."""
    await _configure(standby, "primary_conninfo", "")
    async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
        while await _fetch_value(standby, "SELECT count(*) FROM pg_stat_wal_receiver"):
            await asyncio.sleep(_POLL_S)


async def make_read_only(primary: Postgres) -> None:
    """Refuse writes on connections old and new, which stay open: as a demoted primary does."""
    await _configure(primary, "default_transaction_read_only", "on")
    async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
        while await _fetch_value(primary, "SHOW default_transaction_read_only") != "on":
            await asyncio.sleep(_POLL_S)


async def _configure(server: Postgres, name: str, value: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def _password_of(server: Postgres) -> str:
    """Return the password of the server's user."""
    return await asyncio.to_thread((server.log.parent / "password").read_text)


async def _fetch_value(server: Postgres, query: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()
