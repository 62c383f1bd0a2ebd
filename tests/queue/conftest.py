"""A connection to a database with an empty queue."""

from collections.abc import AsyncIterator

import asyncpg
import pytest


@pytest.fixture
async def connection(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()
