"""The queries that find files to delete read only what is due."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from batchd.db import graveyard, uploads
from tests.support.plans import Explaining
from tests.support.rows import T0

pytestmark = pytest.mark.slow

WAITING = 20_000
DUE = 10

_GRAVES = """
INSERT INTO graveyard SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
    now() + CASE WHEN n <= $1 THEN interval '-1 s' ELSE interval '1 h' END
FROM generate_series(1, $2) AS n
"""
# Those of batches are not due, although their URLs have expired; those without a batch are.
_UPLOADS = """
INSERT INTO uploads SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(),
    $3, $3, NULL, CASE WHEN n > $1 THEN gen_random_uuid() END
FROM generate_series(1, $2) AS n
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(database_url)
    await opened.execute(_GRAVES, DUE, WAITING)
    await opened.execute(_UPLOADS, DUE, WAITING, T0)
    await opened.execute("ANALYZE")
    yield opened
    await opened.close()


@pytest.fixture(params=[False, True], ids=["custom plan", "generic plan"])
def explaining(
    connection: "asyncpg.Connection[asyncpg.Record]", request: pytest.FixtureRequest
) -> Explaining:
    return Explaining(connection, generic=request.param)


async def test_search_for_due_files_reads_no_others(
    explaining: Explaining,
) -> None:
    due = await graveyard.find_due(explaining.as_connection, limit=1_000)

    assert len(due) == DUE
    assert all(isinstance(batch, UUID) for batch in due)
    (plan,) = explaining.plans
    assert plan.read_from("graveyard") <= DUE, plan


async def test_search_for_expired_uploads_reads_no_used_ones(explaining: Explaining) -> None:
    expired = await uploads.find_expired(
        explaining.as_connection,
        tolerance=timedelta(hours=1),
        graveyard=timedelta(days=365 * 1000),
        limit=500,
    )

    assert len(expired) == DUE
    (plan,) = explaining.plans
    assert plan.read_from("uploads") <= DUE, plan
