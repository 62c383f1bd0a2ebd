"""The schema: migrated by dbmate, checked when a process starts."""

import asyncio
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from batchd.database_url import (
    each_server,
    secrets_of,
    ssl_mode,
    with_ssl_mode,
    without_parameters,
)
from batchd.db.connection import Connection
from batchd.db.server import DatabaseUnavailable, connect, startup_error
from batchd.shipped import shipped_folder

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5.0
_WAIT_S = 10.0
_WAIT_INTERVAL_S = 1.0
_UNKNOWN_TO_DBMATE = frozenset(
    {
        *("target_session_attrs", "sslnegotiation", "sslcrl", "krbsrvname", "gsslib"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
_DRIVER_VARIABLES = (
    *("HOME", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGDATABASE"),
    *("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"),
)
"""Variables that both drivers read for what the URL omits."""


class MigrationFailed(Exception):
    """dbmate failed; the message is its output."""


class SchemaTooOld(Exception):
    """The database lacks migrations that this version requires."""


def required_versions() -> frozenset[str]:
    return frozenset(
        path.name.split("_", 1)[0] for path in shipped_folder("migrations").glob("*.sql")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """The server that dbmate connects to: it supports only one, and fewer modes of TLS."""

    url: str
    sslmode: str


async def _probe(url: str, setting: str, timeout_s: float) -> None:
    """Connect as the API does. Raises InvalidSettings or DatabaseUnavailable."""
    try:
        connection = await connect(url, timeout_s=timeout_s)
    except Exception as error:
        raise startup_error(error, setting=setting, url=url) or error from error
    connection.terminate()


async def _find_target(url: str, setting: str) -> _Target:
    """Return the first server that accepts connections, and whether it accepts TLS."""
    servers = each_server(url)
    for server_url in servers[:-1]:
        try:
            await _probe(server_url, setting, _CONNECT_TIMEOUT_S)
        except DatabaseUnavailable as error:
            logger.warning("%s", error)
        else:
            break
    else:
        server_url = servers[-1]
        await _probe(server_url, setting, _CONNECT_TIMEOUT_S)
    mode = ssl_mode(server_url)
    if mode in {"allow", "prefer"}:
        try:
            await _probe(with_ssl_mode(server_url, "require"), setting, _CONNECT_TIMEOUT_S)
        except DatabaseUnavailable:
            mode = "disable"
        else:
            mode = "require"
    return _Target(url=server_url, sslmode=mode)


async def _wait_for_target(url: str, setting: str) -> _Target:
    """Wait a short time for a database that is being started."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            return await _find_target(url, setting)
        except DatabaseUnavailable as error:
            if time.monotonic() + _WAIT_INTERVAL_S > deadline:
                raise
            logger.warning("waiting: %s", error)
            await asyncio.sleep(_WAIT_INTERVAL_S)


async def migrate(database_url: str, *, setting: str = "BATCHD_DATABASE_URL") -> None:
    """Apply the pending migrations; concurrent runs wait for each other.

    Raises InvalidSettings and DatabaseUnavailable, which name the setting, or MigrationFailed.
    """
    target = await _wait_for_target(database_url, setting)
    url = without_parameters(with_ssl_mode(target.url, target.sslmode), _UNKNOWN_TO_DBMATE)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "dbmate"),
        "--migrations-dir",
        str(shipped_folder("migrations")),
        "--no-dump-schema",
        "--env-file",
        "",
        "--migration-lock",
        "migrate",
        env={"DATABASE_URL": url}
        | {name: os.environ[name] for name in _DRIVER_VARIABLES if name in os.environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        text = output.decode(errors="replace").strip()
        for secret in secrets_of(url):
            text = text.replace(secret, "***")
        raise MigrationFailed(text)
    logger.info("schema is up to date")


_APPLIED_VERSIONS = "SELECT version FROM schema_migrations"


async def check_schema(connection: Connection) -> None:
    """Raise SchemaTooOld unless every migration that this version requires is applied."""
    try:
        rows = await connection.fetch(_APPLIED_VERSIONS)
    except asyncpg.UndefinedTableError:
        rows = []
    missing = required_versions() - {row["version"] for row in rows}
    if missing:
        raise SchemaTooOld(
            f"the database lacks migrations {', '.join(sorted(missing))}: run `batchd migrate`"
        )
