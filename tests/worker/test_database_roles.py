"""batchd with the database roles of deploy/postgres: one owns the schema, the other uses it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from batchd.db.migrations import migrate
from batchd.devstack.postgres import Postgres
from batchd.devstack.postgres_cluster import program_path
from tests.support.callers import ApiCaller, lines_of
from tests.support.polling import eventually

pytestmark = pytest.mark.slow

ROLES = Path(__file__).parents[2] / "deploy" / "postgres" / "roles.sql"
LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    owner_url: str
    user_url: str


def url_for(server_url: str, role: str, password: str, database: str) -> str:
    parts = urlsplit(server_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{host}", path=f"/{database}"))


@pytest.fixture
async def roles(postgres: Postgres) -> AsyncIterator[Roles]:
    """Run the script under names of this test's own."""
    number = uuid4().hex
    names = {
        "DATABASE_NAME": f"roles_{number}",
        "DATABASE_OWNER": f"owner_{number}",
        "DATABASE_USER": f"user_{number}",
    }
    owner, user, database = names["DATABASE_OWNER"], names["DATABASE_USER"], names["DATABASE_NAME"]
    process = await asyncio.create_subprocess_exec(
        *(str(program_path("psql")), "--no-psqlrc", "--quiet"),
        *("--dbname", postgres.url, "--file", str(ROLES)),
        env={
            "PATH": os.defpath,
            "DATABASE_OWNER_PASSWORD": "it's the owner",
            "DATABASE_PASSWORD": "user",
            **names,
        },
    )
    assert await process.wait() == 0
    yield Roles(
        owner_url=url_for(postgres.url, owner, "it%27s%20the%20owner", database),
        user_url=url_for(postgres.url, user, "user", database),
    )
    admin = await asyncpg.connect(postgres.url)
    try:
        await admin.execute(f"DROP DATABASE {database} WITH (FORCE)")
        await admin.execute(f"DROP ROLE {owner}")
        await admin.execute(f"DROP ROLE {user}")
    finally:
        await admin.close()


@pytest.fixture
async def database_url(roles: Roles) -> str:
    await migrate(roles.owner_url)
    return roles.user_url


async def test_user_runs_batches(
    caller: ApiCaller, worker: Callable[[], AbstractAsyncContextManager[None]]
) -> None:
    async def status() -> int:
        return (await caller.get(f"/batches/{batch}")).status

    async with worker():
        batch = await caller.create(LINES)
        assert await caller.end(batch) == "completed"
        assert len(await caller.download(batch)) == 1
        assert (await caller.call("DELETE", f"/batches/{batch}")).status == 200
        await eventually(status, lambda status: status == 404)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine ()",
        "DROP TABLE batches",
        "ALTER TABLE users ADD COLUMN mine text",
        "TRUNCATE users",
        "CREATE ROLE mine",
        "COPY users TO PROGRAM 'true'",
        "SELECT pg_read_file('PG_VERSION')",
    ],
)
async def test_user_can_do_nothing_but_read_and_write_rows(
    database_url: str, statement: str
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_neither_role_is_a_superuser(postgres: Postgres, roles: Roles) -> None:
    names = [urlsplit(url).username for url in (roles.owner_url, roles.user_url)]
    admin = await asyncpg.connect(postgres.url)
    try:
        powerful = await admin.fetchval(
            "SELECT bool_or(rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication"
            " OR rolbypassrls) FROM pg_roles WHERE rolname = ANY($1)",
            names,
        )
    finally:
        await admin.close()
    assert powerful is False
