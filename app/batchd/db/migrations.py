"""The schema: migrated by dbmate, checked when a process starts."""

import asyncio
import logging
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg

from batchd.db.connection import Connection
from batchd.shipped import shipped_folder

logger = logging.getLogger(__name__)


class MigrationFailed(Exception):
    """dbmate failed; the message is its output."""


class SchemaTooOld(Exception):
    """The database lacks migrations that this version requires."""


def required_versions() -> frozenset[str]:
    return frozenset(
        path.name.split("_", 1)[0] for path in shipped_folder("migrations").glob("*.sql")
    )


def _with_sslmode(url: str) -> str:
    """Add the sslmode that asyncpg uses by default, which dbmate's driver does not."""
    parts = urlsplit(url)
    if "sslmode" in parse_qs(parts.query):
        return url
    mode = "disable" if parts.hostname in {"127.0.0.1", "localhost", "::1", None} else "require"
    query = f"{parts.query}&sslmode={mode}".lstrip("&")
    return urlunsplit(parts._replace(query=query))


async def migrate(database_url: str) -> None:
    """Apply the pending migrations; concurrent runs wait for each other.

    Raises MigrationFailed.
    """
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "dbmate"),
        "--migrations-dir",
        str(shipped_folder("migrations")),
        "--no-dump-schema",
        "--env-file",
        "",
        "--migration-lock",
        "--wait",
        "up",
        env={"DATABASE_URL": _with_sslmode(database_url)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise MigrationFailed(output.decode(errors="replace").strip())
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
