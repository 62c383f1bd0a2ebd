"""A database that freezes: how long it is waited for, and what becomes of whoever waits."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from batchd.db.connection import Database, open_database
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


async def test_a_frozen_database_is_waited_for_once(database: Database, relay: Relay) -> None:
    async def took_s(how: str) -> float:
        begun = time.monotonic()
        with pytest.raises(ProcessingTimeout):
            async with getattr(database, how)() as connection:
                await connection.execute("SELECT 1")
        return time.monotonic() - begun

    relay.silence()
    all_took_s = await asyncio.gather(*map(took_s, ("connection", "transaction", "snapshot")))

    assert all(TIMEOUT_S <= seconds < 1.7 * TIMEOUT_S for seconds in all_took_s), all_took_s


async def test_who_is_cancelled_while_it_is_frozen_has_been_cancelled(
    database: Database, relay: Relay
) -> None:
    asking = asyncio.Event()

    async def ask() -> None:
        async with database.connection() as connection:
            asking.set()
            await connection.execute("SELECT 1")

    relay.silence()
    task = asyncio.create_task(ask())
    await asking.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_statement_that_is_given_up_in_time_keeps_its_connection(
    database: Database,
) -> None:
    async with database.connection() as connection:
        before = await connection.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.05)

    async with database.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == before
