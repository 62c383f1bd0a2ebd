"""The batch loader: one query for concurrent reads, without effects on each other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID, uuid4

import pytest

from batchd.bootstrap import Components
from batchd.db import batch_loader
from batchd.db.batch_loader import MAX_IN_FLIGHT, BatchLoader
from batchd.db.connection import Connection, Database, open_database
from batchd.domain.batches import Status
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ids import AccountId, BatchId
from batchd.domain.permission import OwnerFilter
from batchd.settings import Settings
from tests.support.fixtures import MakeCaller
from tests.support.rows import T0, insert_batches

EVERYBODY = OwnerFilter()


@pytest.fixture
def reads(components: Components) -> BatchLoader:
    return BatchLoader(components.database)


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many batches each query asked for, as they come."""
    query_sizes: list[int] = []
    take = BatchLoader._take_waiting

    def count(self: BatchLoader) -> object:
        pending = take(self)
        query_sizes.append(len(pending))
        return pending

    monkeypatch.setattr(BatchLoader, "_take_waiting", count)
    return query_sizes


@pytest.fixture
async def reads_alone(settings: Settings) -> AsyncIterator[BatchLoader]:
    """Yield a loader whose database nobody else uses."""
    async with open_database(settings) as database:
        yield BatchLoader(database)


@pytest.fixture
def connections(reads_alone: BatchLoader, monkeypatch: pytest.MonkeyPatch) -> list[Database]:
    """Return an entry for each connection of `reads_alone`, which sends one query by each."""
    acquired: list[Database] = []
    connection = Database.connection

    def count(self: Database) -> AbstractAsyncContextManager[Connection]:
        if self is reads_alone._database:
            acquired.append(self)
        return connection(self)

    monkeypatch.setattr(Database, "connection", count)
    return acquired


@pytest.fixture
async def own(
    components: Components, make_caller: MakeCaller
) -> tuple[AccountId, Sequence[BatchId]]:
    caller = await make_caller()
    rows = await insert_batches(components, caller, [(T0, Status.NEW)] * 40)
    return caller.user.user.account, [BatchId(UUID(row.batch)) for row in rows]


async def test_concurrent_reads_share_one_query(
    reads: BatchLoader, own: tuple[AccountId, Sequence[BatchId]], queries: list[int]
) -> None:
    account, batches = own
    loaded = await asyncio.gather(*(reads.find(account, batch, EVERYBODY) for batch in batches))
    assert [batch and batch.batch for batch in loaded] == batches
    # The first ones to come begin the queries that may be under way; the rest is one more.
    assert len(queries) <= MAX_IN_FLIGHT + 1
    assert sum(queries) == len(batches)


async def test_query_size_is_limited(
    reads: BatchLoader,
    own: tuple[AccountId, Sequence[BatchId]],
    queries: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_loader, "MAX_BATCHES_PER_QUERY", 7)
    account, batches = own
    loaded = await asyncio.gather(*(reads.find(account, batch, EVERYBODY) for batch in batches))
    assert all(loaded)
    assert max(queries) == 7


async def test_batches_of_others_and_unknown_ones_are_not_found(
    reads: BatchLoader, own: tuple[AccountId, Sequence[BatchId]]
) -> None:
    account, batches = own
    stranger = AccountId(uuid4())
    assert await reads.find(stranger, batches[0], EVERYBODY) is None
    assert await reads.find(account, BatchId(uuid4()), EVERYBODY) is None


async def test_cancelled_reader_does_not_disturb_the_others(
    reads: BatchLoader, own: tuple[AccountId, Sequence[BatchId]]
) -> None:
    account, batches = own
    leaving = asyncio.create_task(reads.find(account, batches[0], EVERYBODY))
    staying = asyncio.create_task(reads.find(account, batches[0], EVERYBODY))
    await asyncio.sleep(0)
    leaving.cancel()
    loaded = await staying
    assert loaded is not None
    assert loaded.batch == batches[0]
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_failed_query_fails_its_readers_alone(
    reads: BatchLoader,
    own: tuple[AccountId, Sequence[BatchId]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account, batches = own
    with monkeypatch.context() as patched:
        patched.setattr(Database, "connection", _unavailable)
        outcomes = await asyncio.gather(
            *(reads.find(account, batch, EVERYBODY) for batch in batches), return_exceptions=True
        )
    assert {type(outcome) for outcome in outcomes} == {ProcessingTimeout}
    assert len({id(outcome) for outcome in outcomes}) == len(batches)
    assert await reads.find(account, batches[0], EVERYBODY) is not None


async def test_row_that_cannot_be_decoded_fails_its_own_readers_alone(
    reads: BatchLoader,
    own: tuple[AccountId, Sequence[BatchId]],
    components: Components,
    queries: list[int],
) -> None:
    account, (broken, *intact) = own
    async with components.database.connection() as connection:
        await connection.execute("ALTER TABLE batches DROP CONSTRAINT batches_status_check")
        await connection.execute(
            "UPDATE batches SET status = 'of a later version' WHERE batch = $1", broken
        )

    outcomes = await asyncio.gather(
        *(reads.find(account, batch, EVERYBODY) for batch in (broken, *intact, broken)),
        return_exceptions=True,
    )

    first, *others, last = outcomes
    assert [type(first), type(last)] == [RuntimeError, RuntimeError]
    assert first is not last
    assert [getattr(batch, "batch", batch) for batch in others] == intact
    assert max(queries) > 1, "the rows were read together"


async def test_empty_query_is_not_sent(
    reads_alone: BatchLoader,
    own: tuple[AccountId, Sequence[BatchId]],
    queries: list[int],
    connections: list[Database],
) -> None:
    account, batches = own
    await asyncio.gather(*(reads_alone.find(account, batch, EVERYBODY) for batch in batches))

    assert 0 in queries, "a second query was begun, but the first one took all reads"
    assert len(connections) == len([count for count in queries if count])


async def test_query_is_not_sent_for_cancelled_readers(
    reads_alone: BatchLoader,
    own: tuple[AccountId, Sequence[BatchId]],
    connections: list[Database],
) -> None:
    account, batches = own
    leaving = [
        asyncio.create_task(reads_alone.find(account, batch, EVERYBODY)) for batch in batches
    ]
    await asyncio.sleep(0)
    for reader in leaving:
        reader.cancel()
    outcomes = await asyncio.gather(*leaving, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    assert await reads_alone.find(account, batches[0], EVERYBODY) is not None
    assert len(connections) == 1


def _unavailable(self: Database) -> None:
    raise ProcessingTimeout("The database does not answer.")
