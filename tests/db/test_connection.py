"""Connections to a database that freezes, fails over or changes its password."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from batchd.database_url import each_server
from batchd.db.connection import Database, open_database
from batchd.db.migrations import migrate, required_versions
from batchd.domain.errors import ProcessingTimeout
from batchd.settings import Settings
from tests.support.relay import Relay, relay_to

pytestmark = pytest.mark.slow

TIMEOUT_S = 2.0


@pytest.fixture
async def relay(database_url: str) -> AsyncIterator[Relay]:
    async with relay_to(database_url) as relay:
        yield relay


@pytest.fixture
async def database(settings: Settings, relay: Relay) -> AsyncIterator[Database]:
    """Return a database whose connections are there already, and idle."""
    changes = {"database_url": SecretStr(relay.url), "database_timeout_s": TIMEOUT_S}
    async with open_database(settings.model_copy(update=changes)) as database:
        async with database.connection(), database.connection(), database.connection():
            pass
        yield database
        await relay.cut()  # else the end waits for the server to say good-bye


async def test_frozen_database_causes_one_timeout(database: Database, relay: Relay) -> None:
    async def took_s(how: str) -> float:
        started = time.monotonic()
        with pytest.raises(ProcessingTimeout) as outage:
            async with getattr(database, how)() as connection:
                await connection.execute("SELECT 1")
        assert outage.value.is_outage
        return time.monotonic() - started

    relay.silence()
    all_took_s = await asyncio.gather(*map(took_s, ("connection", "transaction", "snapshot")))

    assert all(TIMEOUT_S <= seconds < 1.7 * TIMEOUT_S for seconds in all_took_s), all_took_s


async def test_cancellation_during_a_freeze_is_raised(database: Database, relay: Relay) -> None:
    querying = asyncio.Event()

    async def query() -> None:
        async with database.connection() as connection:
            querying.set()
            await connection.execute("SELECT 1")

    relay.silence()
    task = asyncio.create_task(query())
    await querying.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_abandoned_statement_keeps_its_connection(
    database: Database,
) -> None:
    async with database.connection() as connection:
        before = await connection.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.05)

    async with database.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == before


@pytest.mark.parametrize("how", ["connection", "transaction", "snapshot"])
async def test_own_time_limit_is_distinguished_from_an_outage(database: Database, how: str) -> None:
    with pytest.raises(ProcessingTimeout) as limit:
        async with getattr(database, how)() as connection:
            await connection.execute("SELECT pg_sleep(60)")

    assert not limit.value.is_outage
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_server_ends_statements_of_a_lost_process(database: Database) -> None:
    async with database.connection() as connection:
        assert await connection.fetchval("SHOW statement_timeout") == "3s"
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "2s"


async def pid_of(database: Database) -> int:
    async with database.connection() as connection:
        pid: int = await connection.fetchval("SELECT pg_backend_pid()")
        return pid


async def make_read_only(database: Database) -> int:
    """Let a connection be to a standby from now on, as after a failover; return its process."""
    async with database.connection() as connection:
        await connection.execute("SET default_transaction_read_only = on")
        pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


async def test_connection_to_a_server_that_became_read_only_is_replaced(
    settings: Settings,
) -> None:
    async with open_database(settings.model_copy(update={"database_pool": 1})) as database:
        pid = await make_read_only(database)
        with pytest.raises(ProcessingTimeout):
            async with database.transaction() as connection:
                await connection.execute("UPDATE users SET role = role")

        assert await pid_of(database) != pid
        async with database.transaction() as connection:
            await connection.execute("UPDATE users SET role = role")


async def test_server_that_became_read_only_is_not_ready(settings: Settings) -> None:
    async with open_database(settings.model_copy(update={"database_pool": 1})) as database:
        await make_read_only(database)
        with pytest.raises(ProcessingTimeout, match="read-only"):
            await database.check()

        await database.check()


def with_server_before(url: str, server: str) -> str:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}@{server},{hosts}"))


async def test_silent_server_leaves_time_for_the_next(
    settings: Settings, relay: Relay, database_url: str
) -> None:
    relay.silence()
    url = with_server_before(database_url, urlsplit(relay.url).netloc.rpartition("@")[2])
    changes = {"database_url": SecretStr(url), "database_timeout_s": TIMEOUT_S}
    async with open_database(settings.model_copy(update=changes)) as database:
        assert await pid_of(database)


async def test_migrations_use_the_available_server(empty_database_url: str) -> None:
    await migrate(with_server_before(empty_database_url, "127.0.0.1:1"))

    connection = await asyncpg.connect(empty_database_url)
    rows = await connection.fetch("SELECT version FROM schema_migrations")
    await connection.close()
    assert {row["version"] for row in rows} == required_versions()


def test_primary_is_selected_among_several_servers() -> None:
    assert each_server("postgresql://u:p@a:1,b/x?sslmode=require") == [
        "postgresql://u:p@a:1/x?target_session_attrs=read-write&sslmode=require",
        "postgresql://u:p@b/x?target_session_attrs=read-write&sslmode=require",
    ]
    assert each_server("postgresql://a,b/x?target_session_attrs=any") == [
        "postgresql://a/x?target_session_attrs=any",
        "postgresql://b/x?target_session_attrs=any",
    ]
    assert each_server("postgresql:///x?host=/run/postgresql") == [
        "postgresql:///x?host=/run/postgresql"
    ]


async def test_rotated_password_is_an_outage_with_a_clear_log(
    settings: Settings, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"role_{uuid4().hex}"
    parts = urlsplit(database_url)
    server = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{role}:before@{server}"))
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'before'")
        changes = {"database_url": SecretStr(url)}
        async with open_database(settings.model_copy(update=changes)) as database:
            await admin.execute(f"ALTER ROLE {role} PASSWORD 'after'")
            async with database.connection():  # the one there is; the next must be opened
                with pytest.raises(ProcessingTimeout) as refusal:
                    async with database.connection():
                        pass
        assert refusal.value.is_outage
        assert "refuses the credentials of BATCHD_DATABASE_URL: password" in caplog.text
    finally:
        await admin.execute(f"DROP ROLE {role}")
        await admin.close()


async def test_a_connection_that_the_server_has_closed_is_an_outage(database: Database) -> None:
    async def query_twice() -> None:
        async with database.connection() as connection:
            with suppress(asyncpg.PostgresError, OSError):
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            # The pool has taken it back.
            await connection.execute("SELECT 1")

    with pytest.raises(ProcessingTimeout) as outage:
        await query_twice()
    assert outage.value.is_outage
