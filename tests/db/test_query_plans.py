"""The queries that run often, on 100,000 batches: none reads more than it answers with.

Judged by what PostgreSQL says it did (rows and pages), never by time.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from batchd.db import batch_list, batches
from batchd.devstack.postgres import Postgres
from batchd.domain.batches import END_STATUSES, Status
from batchd.domain.commands import Cursor, GetBatches
from batchd.domain.ids import AccountId, BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.permission import OwnerFilter
from batchd.queue import jobs, orphans
from tests.support.databases import connected
from tests.support.plans import Explaining, Plan
from tests.support.rows import T0

pytestmark = pytest.mark.slow

LARGE = AccountId(UUID(int=5))
"""Has 60,000 of the batches, 100 of them open; four others share the rest."""
BUSY = AccountId(UUID(int=6))
"""Has 300 open batches among 10,000."""
OPEN_OF_LARGE, OPEN_OF_BUSY = 100, 300
LIVE = OPEN_OF_LARGE + OPEN_OF_BUSY
BATCHES = 100_000
LIMIT = 100
DEEP = 40_000

RARE = frozenset({Status.HASH_MISMATCH, Status.VALIDATION_FAILED, Status.NEW})
ABSENT = frozenset({Status.CANCELLING})
MIXED = frozenset({Status.COMPLETED, Status.HASH_MISMATCH})

_USER = "INSERT INTO users VALUES (gen_random_uuid(), gen_random_uuid(), 'admin', '', now())"
# A batch a second. Of the large account, one in six hundred is of each rare status.
_BATCHES = """
INSERT INTO batches (batch, account, user_id, handler, request_hash, operation, status, created_ts,
    updated_ts, hash, batch_dict)
SELECT gen_random_uuid(), ('00000000-0000-0000-0000-00000000000' || greatest(n % 10, 5))::uuid,
    user_id, gen_random_uuid(), sha256('x'), 'get_batch',
    CASE WHEN n % 10 = 6 AND n <= 3000 THEN 'processing' WHEN n % 1000 = 1 THEN 'hash_mismatch'
        WHEN n % 1000 = 2 THEN 'validation_failed' WHEN n % 1000 = 3 THEN 'new'
        ELSE 'completed' END,
    ts, ts, encode(sha256('x'), 'hex'), '{"note": "as many callers add one"}'
FROM users, generate_series(1, $2) AS n,
    LATERAL (SELECT $1::timestamptz + n * interval '1 s') AS t (ts)
"""
# Of each batch being processed a chunk is done and two are not; ended ones have theirs still.
_CHUNKS = """
INSERT INTO chunks (batch, no, start, size, first_line, lines, part_key)
SELECT batch, no, no * 100, 100, no * 10 + 1, 10,
    CASE WHEN status = 'completed' OR no = 0 THEN 'part' END
FROM batches, generate_series(0, 2) AS no
WHERE status = 'processing' OR (status = 'completed' AND created_ts < $1)
"""
_OF_STATUS = "SELECT batch FROM batches WHERE status = $1 ORDER BY created_ts"
# One batch in twenty of the large account is of a user of its own.
_STRANGER = """
WITH stranger AS (
    INSERT INTO users SELECT gen_random_uuid(), gen_random_uuid(), 'admin', '', now()
    RETURNING user_id
)
UPDATE batches SET user_id = stranger.user_id FROM stranger
WHERE account = $1 AND extract(second FROM created_ts)::int % 20 = 5
"""
_STRANGER_OF = "SELECT user_id FROM batches WHERE account = $1 GROUP BY 1 ORDER BY count(*) LIMIT 1"
_NEWEST = "SELECT max(created_ts) FROM batches WHERE account = $1"
_ROW = """
SELECT batch, created_ts FROM batches WHERE account = $1 ORDER BY created_ts DESC LIMIT 1 OFFSET $2
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large_database(postgres: Postgres) -> AsyncIterator[str]:
    async with connected(postgres.url) as server, server.temporary_database() as url:
        connection = await asyncpg.connect(url)
        await connection.execute(_USER)
        await connection.execute(_BATCHES, T0, BATCHES)
        await connection.execute(_STRANGER, LARGE)
        await connection.execute(_CHUNKS, T0 + timedelta(seconds=BATCHES // 10))
        async with connection.transaction():
            for job in await queued(connection):
                batch = await batches.find_unscoped(connection, job.batch)
                assert batch is not None
                await jobs.enqueue(connection, batch, [job])
        await connection.execute("ANALYZE")
        await connection.close()
        yield url


async def queued(connection: "asyncpg.Connection[asyncpg.Record]") -> list[Job]:
    """Return jobs for one of two chunks to do of each batch, and for every other new batch."""
    processing = await connection.fetch(_OF_STATUS, Status.PROCESSING)
    new = await connection.fetch(_OF_STATUS, Status.NEW)
    chunk_jobs = [Job(Stage.CHUNK, row["batch"], 1) for row in processing]
    return [*chunk_jobs, *(Job(Stage.COPY, row["batch"]) for row in new[::2])]


@pytest.fixture
async def connection(
    large_database: str,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(large_database)
    yield opened
    await opened.close()


@pytest.fixture(params=[False, True], ids=["custom plan", "generic plan"])
def explaining(
    connection: "asyncpg.Connection[asyncpg.Record]", request: pytest.FixtureRequest
) -> Explaining:
    return Explaining(connection, generic=request.param)


async def deep(connection: "asyncpg.Connection[asyncpg.Record]") -> Cursor:
    row = await connection.fetchrow(_ROW, LARGE, DEEP)
    assert row is not None
    return Cursor(created_ts=row["created_ts"], batch=BatchId(row["batch"]))


def assert_bounded(plan: Plan, *, rows: int, searches: int = 1) -> None:
    """Hold the plan against what it has to read: so many rows, found by so many index searches."""
    assert "Seq Scan" not in plan.scans("batches"), plan
    assert plan.read_from("batches") <= rows, plan
    # Each row is on a page of its own at worst; an index is three levels deep, and what is wanted
    # of it lies on few pages.
    assert plan.pages <= rows + 10 * searches, plan
    assert plan.sorted_rows() <= rows, plan


@pytest.mark.parametrize("depth", ["first page", "deep page"])
@pytest.mark.parametrize("oldest_first", [False, True], ids=["newest first", "oldest first"])
async def test_page_reads_only_its_rows(
    explaining: Explaining,
    connection: "asyncpg.Connection[asyncpg.Record]",
    depth: str,
    oldest_first: bool,
) -> None:
    page, more = await batch_list.find_page(
        explaining.as_connection,
        LARGE,
        GetBatches(
            limit=LIMIT,
            cursor=await deep(connection) if depth == "deep page" else None,
            ge=T0 if oldest_first else None,
            le=None,
            statuses=frozenset(),
        ),
        OwnerFilter(),
    )

    assert (len(page), more) == (LIMIT, True)
    (plan,) = explaining.plans
    assert_bounded(plan, rows=LIMIT + 1)
    assert plan.sorted_rows() == 0, plan


@pytest.mark.parametrize("depth", ["first page", "deep page"])
@pytest.mark.parametrize("oldest_first", [False, True], ids=["newest first", "oldest first"])
@pytest.mark.parametrize(
    "statuses", [RARE, ABSENT, MIXED, frozenset(Status)], ids=["rare", "absent", "mixed", "all"]
)
async def test_page_of_several_statuses_reads_at_most_a_page_of_each(
    explaining: Explaining,
    connection: "asyncpg.Connection[asyncpg.Record]",
    depth: str,
    oldest_first: bool,
    statuses: frozenset[Status],
) -> None:
    page, _ = await batch_list.find_page(
        explaining.as_connection,
        LARGE,
        GetBatches(
            limit=LIMIT,
            cursor=await deep(connection) if depth == "deep page" else None,
            ge=T0 if oldest_first else None,
            le=None,
            statuses=statuses,
        ),
        OwnerFilter(),
    )

    assert {listed.status for listed in page} <= statuses
    assert len(page) == 0 if statuses == ABSENT else len(page) > 0
    (plan,) = explaining.plans
    assert_bounded(plan, rows=len(statuses) * (LIMIT + 1), searches=len(statuses))


@pytest.mark.parametrize("depth", ["first page", "deep page"])
@pytest.mark.parametrize("oldest_first", [False, True], ids=["newest first", "oldest first"])
@pytest.mark.parametrize("statuses", [frozenset[Status](), RARE], ids=["all", "rare"])
async def test_page_of_own_batches_reads_at_most_a_page_of_each_status(
    explaining: Explaining,
    connection: "asyncpg.Connection[asyncpg.Record]",
    depth: str,
    oldest_first: bool,
    statuses: frozenset[Status],
) -> None:
    """Few of the batches of the account are the caller's: the others are not looked at."""
    page, _ = await batch_list.find_page(
        explaining.as_connection,
        LARGE,
        GetBatches(
            limit=LIMIT,
            cursor=await deep(connection) if depth == "deep page" else None,
            ge=T0 if oldest_first else None,
            le=None,
            statuses=statuses,
        ),
        OwnerFilter(only=await connection.fetchval(_STRANGER_OF, LARGE)),
    )

    assert statuses or len(page) == LIMIT
    (plan,) = explaining.plans
    scans = len(statuses or Status)
    assert_bounded(plan, rows=scans * (LIMIT + 1), searches=scans)


async def test_page_without_own_batches_reads_those_in_between(
    explaining: Explaining, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    stranger = await connection.fetchval(_STRANGER_OF, LARGE)
    command = GetBatches(limit=LIMIT, cursor=None, ge=None, le=None, statuses=frozenset())

    page, more = await batch_list.find_page(
        explaining.as_connection, LARGE, command, OwnerFilter(exclude=stranger)
    )

    assert (len(page), more) == (LIMIT, True)
    assert_bounded(explaining.plans[0], rows=2 * LIMIT)


async def test_time_range_reads_only_its_rows(explaining: Explaining) -> None:
    window = GetBatches(
        limit=1000,
        cursor=None,
        ge=T0 + timedelta(seconds=BATCHES // 2),
        le=T0 + timedelta(seconds=BATCHES // 2 + 99),
        statuses=frozenset(),
    )

    page, more = await batch_list.find_page(explaining.as_connection, LARGE, window, OwnerFilter())

    assert (len(page), more) == (60, False)
    assert_bounded(explaining.plans[0], rows=60)


async def test_get_batch_reads_one_row(
    explaining: Explaining, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    batch = (await deep(connection)).batch

    assert await batches.find(explaining.as_connection, LARGE, batch, OwnerFilter()) is not None
    assert await batches.find(explaining.as_connection, BUSY, batch, OwnerFilter()) is None
    for plan in explaining.plans:
        assert_bounded(plan, rows=1)


async def test_counting_open_batches_reads_no_ended_ones(explaining: Explaining) -> None:
    count = await batches.count_open(explaining.as_connection, LARGE, limit=10_000)

    assert count == OPEN_OF_LARGE
    assert_bounded(explaining.plans[0], rows=count, searches=len(Status) - len(END_STATUSES))


async def test_counting_open_batches_stops_at_the_limit(explaining: Explaining) -> None:
    count = await batches.count_open(explaining.as_connection, BUSY, limit=50)

    assert count == 50
    assert_bounded(explaining.plans[0], rows=50, searches=len(Status) - len(END_STATUSES))


async def test_next_creation_time_reads_only_the_last_batch(
    explaining: Explaining, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    newest = await connection.fetchval(_NEWEST, BUSY)

    assert await batch_list.next_created_ts(explaining.as_connection, BUSY) > newest
    assert_bounded(explaining.plans[0], rows=1)


async def test_search_for_orphaned_jobs_reads_only_live_batches(explaining: Explaining) -> None:
    lost = await orphans.find_orphaned_jobs(explaining.as_connection)

    assert len([job for job in lost if job.stage is Stage.COPY]) == OPEN_OF_LARGE // 2
    assert len([job for job in lost if job.stage is Stage.CHUNK and job.chunk == 2]) == OPEN_OF_BUSY
    assert len(lost) == OPEN_OF_LARGE // 2 + OPEN_OF_BUSY
    for plan in explaining.plans:
        assert "Seq Scan" not in plan.scans("batches") | plan.scans("chunks"), plan
        assert plan.read_from("batches") <= LIVE, plan
        assert plan.read_from("chunks") <= 2 * OPEN_OF_BUSY, plan


async def test_search_for_unmarked_processed_batches_reads_only_live_ones(
    explaining: Explaining,
) -> None:
    assert await orphans.find_unmarked_processed(explaining.as_connection) == []

    (plan,) = explaining.plans
    assert "Seq Scan" not in plan.scans("batches") | plan.scans("chunks"), plan
    assert plan.read_from("batches") <= LIVE, plan
    assert plan.read_from("chunks") <= 2 * OPEN_OF_BUSY, plan
