"""A primary fails over to its standby while the API and a worker use it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from batchd.db.connection import Database, open_database
from batchd.db.migrations import migrate
from batchd.devstack.replicated_pair import ReplicatedPair, replicated_pair
from batchd.devstack.standby import make_read_only, promote, wait_until_caught_up
from batchd.domain.errors import ProcessingTimeout
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.polling import eventually
from tests.support.refusals import assert_refused

pytestmark = pytest.mark.slow

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
WRITE = "UPDATE users SET role = role"
CONNECTIONS = 3


async def demote(pair: ReplicatedPair) -> None:
    """Make the primary read-only; the connections to it stay open."""
    await make_read_only(pair.primary)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[ReplicatedPair]:
    async with replicated_pair(tmp_path) as pair:
        await migrate(pair.primary.url)
        await wait_until_caught_up(pair.standby, pair.primary)
        yield pair


@pytest.fixture
def database_url(pair: ReplicatedPair) -> str:
    return pair.url


async def port_of(database: Database) -> int:
    async with database.transaction() as connection:
        await connection.execute(WRITE)
        port: int = await connection.fetchval("SELECT inet_server_port()")
        return port


async def test_pool_abandons_a_server_that_became_read_only(
    settings: Settings, pair: ReplicatedPair
) -> None:
    async def write() -> int | None:
        try:
            return await port_of(database)
        except ProcessingTimeout:
            return None

    async with open_database(settings) as database:
        primary_port, standby_port = (
            urlsplit(pair.primary.url).port,
            urlsplit(pair.standby.url).port,
        )
        together = asyncio.Barrier(CONNECTIONS)

        async def write_together() -> int:
            async with database.transaction() as connection:
                await together.wait()
                port: int = await connection.fetchval("SELECT inet_server_port()")
                return port

        async def ports() -> list[int]:
            """Return the servers of that many connections at once."""
            return await asyncio.gather(*(write_together() for _ in range(CONNECTIONS)))

        assert await ports() == [primary_port] * CONNECTIONS
        await demote(pair)
        with pytest.raises(ProcessingTimeout):
            await port_of(database)
        await promote(pair.standby)

        await eventually(write, lambda port: port == standby_port)
        assert await ports() == [standby_port] * CONNECTIONS


@pytest.mark.parametrize("fail_over", [demote, ReplicatedPair.crash])
async def test_api_and_worker_continue_after_a_failover(
    caller: ApiCaller,
    worker: Callable[[], AbstractAsyncContextManager[None]],
    pair: ReplicatedPair,
    fail_over: Callable[[ReplicatedPair], Awaitable[None]],
) -> None:
    async def new_upload() -> int:
        return (await caller.call("POST", "/cache")).status

    async with worker():
        before = await caller.create(LINES)
        assert await caller.end(before) == "completed"
        await wait_until_caught_up(pair.standby, pair.primary)
        await fail_over(pair)
        refusal = await caller.call("POST", "/cache")
        assert_refused(refusal, 503, 503159)
        assert int(refusal.headers["Retry-After"]) >= 1

        await promote(pair.standby)

        await eventually(new_upload, lambda status: status == 201)
        after = await caller.create(LINES)
        assert await caller.end(after, within_s=60) == "completed"
    assert len(await caller.download(before)) == len(await caller.download(after)) == 1


async def test_work_that_waits_during_a_failover_is_completed(
    caller: ApiCaller, worker: Callable[[], AbstractAsyncContextManager[None]], pair: ReplicatedPair
) -> None:
    async def status() -> int:
        return (await caller.get(f"/batches/{batch}")).status

    batch = await caller.create(LINES)
    await wait_until_caught_up(pair.standby, pair.primary)
    await pair.fail_over()
    await eventually(status, lambda status: status == 200)

    async with worker():
        assert await caller.end(batch, within_s=60) == "completed"
    assert len(await caller.download(batch)) == 1
