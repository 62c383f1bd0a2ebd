"""Databases of the tests' PostgreSQL: each test gets its own, cloned from a migrated one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from batchd.db.migrations import migrate

TEMPLATE = "migrated"


def database_named(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def make_template(admin_url: str) -> None:
    """Make the database that others are cloned from, which is faster than migrating each."""
    await _execute(admin_url, f"CREATE DATABASE {TEMPLATE}")
    await migrate(database_named(admin_url, TEMPLATE))


@asynccontextmanager
async def temporary_database(admin_url: str, *, template: str = TEMPLATE) -> AsyncIterator[str]:
    """Give the URL of a fresh database, which is removed afterwards, whoever still uses it."""
    name = f"test_{uuid4().hex}"
    await _execute(admin_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        yield database_named(admin_url, name)
    finally:
        await _execute(admin_url, f"DROP DATABASE {name} WITH (FORCE)")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def row_lock(database_url: str, table: str) -> AsyncIterator[None]:
    """Lock the rows of a table, so that who changes one waits."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT FROM {table} FOR UPDATE")
            yield
    finally:
        await connection.close()
