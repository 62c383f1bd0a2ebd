"""Concurrent readers and a writer: responses are fresh, consistent, and of the caller's account."""

import asyncio
import random
from datetime import timedelta

import pytest

from batchd.bootstrap import Components
from batchd.domain.batches import Status
from tests.support.callers import ApiCaller
from tests.support.fixtures import MakeCaller
from tests.support.rows import T0, insert_batches

pytestmark = pytest.mark.slow

READERS = 256
READS = 6
BATCHES = 40

_STATUSES = [status.value for status in Status if status is not Status.DELETING]
_CHANGE = """
UPDATE batches SET status = $2, updated_ts = $3, hash = lpad(to_hex($4::int), 64, '0')
WHERE batch = $1::uuid
"""


class Writer:
    """Changes batches, all their attributes together, and knows what is committed."""

    def __init__(self, components: Components, batches: list[str]) -> None:
        self._services = components
        self._batches = batches
        self.committed = dict.fromkeys(batches, 0)
        self.started = dict.fromkeys(batches, 0)

    async def change_random_batch(self) -> None:
        batch = random.choice(self._batches)
        version = self.started[batch] = self.committed[batch] + 1
        status = _STATUSES[version % len(_STATUSES)]
        async with self._services.database.connection() as connection:
            updated_ts = T0 + timedelta(seconds=version)
            await connection.execute(_CHANGE, batch, status, updated_ts, version)
        self.committed[batch] = version

    async def change_until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.change_random_batch()


async def read(caller: ApiCaller, writer: Writer, batch: str) -> None:
    """Ask for a batch, and hold the answer against what it could be."""
    oldest = writer.committed[batch]
    reply = await caller.get(f"/batches/{batch}")
    newest = writer.started[batch]
    assert reply.status == 200
    assert reply.body["batch"] == batch
    version = round(reply.body["updated_ts"] - T0.timestamp())
    assert oldest <= version <= newest
    if version:
        assert int(reply.body["hash"], 16) == version
        assert reply.body["status"] == _STATUSES[version % len(_STATUSES)]


async def test_concurrent_readers_see_fresh_consistent_batches_of_their_account(
    make_caller: MakeCaller, components: Components
) -> None:
    owners = [await make_caller(), await make_caller()]
    owned: dict[ApiCaller, list[str]] = {}
    for owner in owners:
        rows = [(T0, Status.NEW)] * BATCHES
        owned[owner] = [row.batch for row in await insert_batches(components, owner, rows)]
    writer = Writer(components, [batch for batches in owned.values() for batch in batches])
    done = asyncio.Event()
    writing = asyncio.create_task(writer.change_until(done))

    async def reader(number: int) -> None:
        owner = owners[number % 2]
        other = owners[1 - number % 2]
        for _ in range(READS):
            await read(owner, writer, random.choice(owned[owner]))
            anothers = await owner.get(f"/batches/{random.choice(owned[other])}")
            assert (anothers.status, anothers.body["subcode"]) == (404, 404653)

    try:
        await asyncio.gather(*(reader(number) for number in range(READERS)))
    finally:
        done.set()
        await writing
    assert sum(writer.committed.values()) > BATCHES
