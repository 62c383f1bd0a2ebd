"""Beyond what a process can do at once it refuses quickly, and goes on with what it has begun."""

import asyncio

import aiohttp
import pytest

from batchd.db.batch_reads import BatchReads
from batchd.domain.batches import Batch
from batchd.domain.ids import AccountId, BatchId
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.polling import eventually
from tests.support.refusals import assert_refused

MOST = 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_requests": MOST})


async def test_a_request_too_many_is_refused_at_once_and_the_others_are_answered(
    caller: ApiCaller, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(b"")
    let = asyncio.Event()
    waiting = 0
    find = BatchReads.find

    async def wait(self: BatchReads, account: AccountId, wanted: BatchId) -> Batch | None:
        nonlocal waiting
        waiting += 1
        await let.wait()
        return await find(self, account, wanted)

    async def under_way() -> int:
        return waiting

    monkeypatch.setattr(BatchReads, "find", wait)
    path = f"/batches/{batch}"
    begun = [asyncio.create_task(caller.get(path)) for _ in range(MOST)]
    await eventually(under_way, MOST.__eq__)
    refused = await caller.get(path)
    assert_refused(refused, 503, 503159)
    assert int(refused.headers["Retry-After"]) > 0
    async with session.get(f"{caller.url}/healthz") as alive:
        assert alive.status == 200
    let.set()
    assert [reply.status for reply in await asyncio.gather(*begun)] == [200] * MOST
    assert (await caller.get(path)).status == 200
