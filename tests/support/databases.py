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
    """Create the database that others are cloned from, which is faster than migrating each."""
    async with connected(admin_url) as server:
        await server.execute(f"CREATE DATABASE {TEMPLATE}")
    await migrate(database_named(admin_url, TEMPLATE))


class DatabaseServer:
    """A connection that creates and drops databases."""

    def __init__(self, url: str, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._url = url
        self._connection = connection

    async def execute(self, statement: str) -> None:
        await self._connection.execute(statement)

    @asynccontextmanager
    async def temporary_database(self, *, template: str = TEMPLATE) -> AsyncIterator[str]:
        """Yield the URL of a new database, which is dropped afterwards, whoever still uses it."""
        name = f"test_{uuid4().hex}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            yield database_named(self._url, name)
        finally:
            await self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[DatabaseServer]:
    connection = await asyncpg.connect(url)
    try:
        yield DatabaseServer(url, connection)
    finally:
        await connection.close()


@asynccontextmanager
async def row_lock(database_url: str, table: str) -> AsyncIterator[None]:
    """Lock the rows of a table, so that whoever changes one waits."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT FROM {table} FOR UPDATE")
            yield
    finally:
        await connection.close()
