"""Concurrently created batches: limited, and visible in the order of their times."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from batchd.bootstrap import Components
from batchd.db.advisory_locks import AccountLock, acquire_for_account
from batchd.domain.batches import Status
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.creating import body_of, create
from tests.support.fixtures import MakeCaller
from tests.support.polling import eventually
from tests.support.rows import T0, insert_batches

AT_ONCE = 30
LIMIT = 3
_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest.fixture
async def other(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """Return a connection besides those of the API."""
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


@pytest.mark.parametrize("settings", [{"max_open_batches": LIMIT}], indirect=True, ids=["limited"])
async def test_concurrent_creation_stops_at_the_limit(
    caller: ApiCaller, make_caller: MakeCaller
) -> None:
    colleague = await make_caller(account=caller.user.user.account)
    bodies = await asyncio.gather(*(body_of(caller) for _ in range(AT_ONCE)))

    replies = await asyncio.gather(
        *(create((caller, colleague)[i % 2], body) for i, body in enumerate(bodies))
    )

    refused = [reply for reply in replies if reply.status != 201]
    assert len(refused) == AT_ONCE - LIMIT
    assert {(reply.status, reply.body["subcode"]) for reply in refused} == {(400, 400141)}
    assert len((await caller.get("/batches")).body["batches"]) == LIMIT


async def test_waiting_creation_continues_when_the_lock_is_released(
    caller: ApiCaller, other: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async def waiting() -> int:
        return int(await other.fetchval(_WAITING))

    body = await body_of(caller)
    transaction = other.transaction()
    await transaction.start()
    await acquire_for_account(other, AccountLock.BATCHES, caller.user.user.account)
    creating = asyncio.create_task(create(caller, body))
    await eventually(waiting, (1).__eq__)
    released_at = await other.fetchval(_NOW)
    await transaction.commit()

    reply = await creating
    assert reply.body["created_ts"] >= int(released_at * 1000) / 1000


async def follow(caller: ApiCaller, listed: list[str]) -> None:
    """List what was created since the last one seen, as a program would that follows along."""
    last = await caller.get(f"/batches/{listed[-1]}") if listed else None
    query = {"ge": "0" if last is None else str(last.body["created_ts"])}
    page = (await caller.get("/batches", params=query)).body["batches"]
    listed += [batch for batch in page if batch not in listed]


async def test_follower_misses_no_concurrently_created_batch(caller: ApiCaller) -> None:
    bodies = await asyncio.gather(*(body_of(caller) for _ in range(AT_ONCE)))
    creating = asyncio.gather(*(create(caller, body) for body in bodies))
    listed: list[str] = []
    while not creating.done():
        await follow(caller, listed)
    await follow(caller, listed)

    assert sorted(listed) == sorted(reply.body["batch"] for reply in await creating)


async def test_no_two_batches_of_an_account_have_the_same_time(caller: ApiCaller) -> None:
    bodies = await asyncio.gather(*(body_of(caller) for _ in range(AT_ONCE)))
    replies = await asyncio.gather(*(create(caller, body) for body in bodies))
    assert len({reply.body["created_ts"] for reply in replies}) == AT_ONCE


async def test_times_increase_although_the_clock_of_the_database_goes_back(
    caller: ApiCaller, components: Components
) -> None:
    newest = T0.replace(year=T0.year + 100)
    await insert_batches(components, caller, [(newest, Status.COMPLETED)])
    reply = await create(caller, await body_of(caller))
    assert reply.body["created_ts"] == pytest.approx(newest.timestamp() + 0.001, abs=0.0001)
