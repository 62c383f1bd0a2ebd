"""The schema: applied by dbmate, checked at the start of every process."""

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
    """dbmate refused; the message is what it printed."""


class SchemaTooOld(Exception):
    """The database lacks migrations that this version needs."""


def needed_versions() -> frozenset[str]:
    return frozenset(
        path.name.split("_", 1)[0] for path in shipped_folder("migrations").glob("*.sql")
    )


def _for_dbmate(url: str) -> str:
    """Name the sslmode that asyncpg assumes by itself and dbmate's driver does not."""
    parts = urlsplit(url)
    if "sslmode" in parse_qs(parts.query):
        return url
    mode = "disable" if parts.hostname in {"127.0.0.1", "localhost", "::1", None} else "require"
    query = f"{parts.query}&sslmode={mode}".lstrip("&")
    return urlunsplit(parts._replace(query=query))


async def migrate(database_url: str) -> None:
    """Bring the schema up to date; several may do so at once: one works, the others wait.

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
        env={"DATABASE_URL": _for_dbmate(database_url)},
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


_APPLIED = "SELECT version FROM schema_migrations"


async def check_schema(connection: Connection) -> None:
    """Raise SchemaTooOld unless every migration of this version has been applied."""
    try:
        rows = await connection.fetch(_APPLIED)
    except asyncpg.UndefinedTableError:
        rows = []
    missing = needed_versions() - {row["version"] for row in rows}
    if missing:
        raise SchemaTooOld(
            f"the database lacks migrations {', '.join(sorted(missing))}: run `batchd migrate`"
        )
