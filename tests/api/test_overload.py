"""Beyond what a process can do at once it refuses quickly, and goes on with what it has begun."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from batchd.db.batch_loader import BatchLoader
from batchd.domain.batches import Batch
from batchd.domain.ids import AccountId, BatchId
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.polling import eventually
from tests.support.raw_http import raw_connection, request
from tests.support.refusals import assert_refused

MOST = 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_requests": MOST, "body_timeout_s": 1.0})


async def test_a_request_too_many_is_refused_at_once_and_the_others_are_answered(
    caller: ApiCaller, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(b"")
    let = asyncio.Event()
    waiting = 0
    find = BatchLoader.find

    async def wait(self: BatchLoader, account: AccountId, wanted: BatchId) -> Batch | None:
        nonlocal waiting
        waiting += 1
        await let.wait()
        return await find(self, account, wanted)

    async def under_way() -> int:
        return waiting

    monkeypatch.setattr(BatchLoader, "find", wait)
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


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param([b"Content-Length: 100"], id="nothing"),
        pytest.param([b"Transfer-Encoding: chunked"], id="no chunk"),
    ],
)
async def test_bodies_that_do_not_come_are_given_up_and_refuse_nobody_else(
    caller: ApiCaller, api_url: str, begun: list[bytes]
) -> None:
    authorization = f"Authorization: {caller.user.secret}".encode()
    assert (await caller.get("/whoami")).status == 200  # now it is known who calls
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(raw_connection(api_url)) for _ in range(2 * MOST)]
        for connection in idle:
            await connection.send(request(b"POST /batches HTTP/1.1", authorization, *begun))
        assert (await caller.get("/whoami")).status == 200
        for connection in idle:
            assert_refused(await connection.read_reply(), 400, 400589)


async def test_a_body_that_turns_out_malformed_is_given_up(caller: ApiCaller, api_url: str) -> None:
    headers = [f"Authorization: {caller.user.secret}".encode(), b"Transfer-Encoding: chunked"]
    async with raw_connection(api_url) as connection:
        await connection.send(request(b"POST /batches HTTP/1.1", *headers, b"Expect: 100-continue"))
        assert (await connection.read_head()).startswith("HTTP/1.1 100")
        await connection.send(b"zz\r\n")
        assert_refused(await connection.read_reply(), 400, 400589)
