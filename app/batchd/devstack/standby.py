"""A streaming standby of an embedded PostgreSQL server, to which a test or benchmark fails over."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.postgres_cluster import CLEAN_ENVIRONMENT, program_path, server_owner
from batchd.devstack.private_files import write_private
from batchd.devstack.processes import run_command

CATCH_UP_TIMEOUT_S = 60.0
_POLL_S = 0.02


@asynccontextmanager
async def run_standby(
    primary: Postgres, data_dir: Path, *, durable: bool = True
) -> AsyncIterator[Postgres]:
    """Copy the primary into `data_dir` and run a hot standby that streams from it.

    Replication is asynchronous. The standby takes reads at once, and writes once it is promoted.
    Raises StackFailed.
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
    async with run_postgres(data_dir, durable=durable) as standby:
        yield standby


async def promote(standby: Postgres) -> None:
    """Make the standby a primary; return when it takes writes."""
    promoted = await _query(standby, "SELECT pg_promote(wait => true, wait_seconds => 60)")
    if promoted != "t":
        raise StackFailed("The standby was not promoted in time.")


async def wait_until_caught_up(standby: Postgres, primary: Postgres) -> None:
    """Return once the standby has replayed everything that the primary has written by now."""
    # Not pg_current_wal_lsn: without synchronous_commit, commits are written out a little later.
    position = await _query(primary, "SELECT pg_current_wal_insert_lsn()")
    await _wait_until_true(standby, f"SELECT pg_last_wal_replay_lsn() >= '{position}'")


async def stop_streaming(standby: Postgres) -> None:
    """Cut the standby off: what the primary commits from now on is lost by its promotion."""
    await _configure(standby, "primary_conninfo", "")
    await _wait_until_true(standby, "SELECT count(*) = 0 FROM pg_stat_wal_receiver")


async def make_read_only(primary: Postgres) -> None:
    """Refuse writes on connections old and new, which stay open: as a demoted primary does."""
    await _configure(primary, "default_transaction_read_only", "on")
    await _wait_until_true(primary, "SELECT current_setting('default_transaction_read_only')")


async def _configure(server: Postgres, name: str, value: str) -> None:
    # In a command of its own: it can't run in a transaction.
    await _query(server, f"ALTER SYSTEM SET {name} = '{value}'")
    await _query(server, "SELECT pg_reload_conf()")


async def _password_of(server: Postgres) -> str:
    """Return the password of the server's user."""
    return await asyncio.to_thread((server.log.parent / "password").read_text)


async def _wait_until_true(server: Postgres, query: str) -> None:
    async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
        while await _query(server, query) not in {"t", "on"}:
            await asyncio.sleep(_POLL_S)


async def _query(server: Postgres, query: str) -> str:
    """Return the value that the query results in, as psql prints it."""
    output = await run_command(
        "psql",
        [
            *(program_path("psql"), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"),
            *("--dbname", server.url, "--command", query),
        ],
        env=CLEAN_ENVIRONMENT,
    )
    return output.strip()
