"""A process at its concurrency limit refuses more requests and completes those in progress."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from batchd.db.batch_loader import BatchLoader
from batchd.domain.batches import Batch
from batchd.domain.ids import AccountId, BatchId
from batchd.domain.permission import OwnerFilter
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.polling import NEVER_S, eventually
from tests.support.raw_http import raw_connection, request
from tests.support.refusals import assert_refused

LIMIT = 3
EXPECT = b"Expect: 100-continue"


@pytest.fixture
def body_timeout_s() -> float:
    """Return the usual timeout; a test that is about the timeout sets a short one."""
    return NEVER_S


@pytest.fixture
def settings(settings: Settings, body_timeout_s: float) -> Settings:
    return settings.model_copy(update={"max_requests": LIMIT, "body_timeout_s": body_timeout_s})


def post(caller: ApiCaller, *headers: bytes) -> bytes:
    """Return the head of a create_batch request, without its body."""
    authorization = f"Authorization: {caller.user.secret}".encode()
    return request(b"POST /batches HTTP/1.1", authorization, *headers)


async def test_request_beyond_the_limit_is_refused(
    caller: ApiCaller, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(b"")
    released = asyncio.Event()
    reading = 0
    find = BatchLoader.find

    async def gated_find(
        self: BatchLoader, account: AccountId, batch: BatchId, owner: OwnerFilter
    ) -> Batch | None:
        nonlocal reading
        reading += 1
        await released.wait()
        return await find(self, account, batch, owner)

    async def requests_reading() -> int:
        return reading

    monkeypatch.setattr(BatchLoader, "find", gated_find)
    path = f"/batches/{batch}"
    within_limit = [asyncio.create_task(caller.get(path)) for _ in range(LIMIT)]
    await eventually(requests_reading, LIMIT.__eq__)
    refused = await caller.get(path)
    assert_refused(refused, 503, 503159)
    assert int(refused.headers["Retry-After"]) > 0
    async with session.get(f"{caller.url}/healthz") as response:
        assert response.status == 200
    released.set()
    assert [reply.status for reply in await asyncio.gather(*within_limit)] == [200] * LIMIT
    assert (await caller.get(path)).status == 200


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        pytest.param(b"Content-Length: 3", b"not", id="content-length"),
        pytest.param(b"Transfer-Encoding: chunked", b"3\r\nnot\r\n0\r\n\r\n", id="chunked"),
    ],
)
async def test_requests_that_wait_for_their_body_do_not_count(
    caller: ApiCaller, api_url: str, framing: bytes, body: bytes
) -> None:
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(raw_connection(api_url)) for _ in range(2 * LIMIT)
        ]
        for connection in connections:
            await connection.send(post(caller, framing, EXPECT))
            # It is past authentication, and the server waits for its body.
            assert await connection.read_head() == "HTTP/1.1 100 Continue\r\n\r\n"
        assert (await caller.get("/whoami")).status == 200
        for connection in connections:
            await connection.send(body)
            assert_refused(await connection.read_reply(), 400, 400415)


@pytest.mark.parametrize("body_timeout_s", [0.05])
@pytest.mark.parametrize("framing", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
async def test_body_that_does_not_arrive_times_out(
    caller: ApiCaller, api_url: str, framing: bytes
) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(post(caller, framing))
        refused = await connection.read_reply()
    assert_refused(refused, 400, 400589)
    assert "0.05 s" in refused.body["description"]


@pytest.mark.parametrize("body_timeout_s", [0.3])
async def test_malformed_body_is_refused_once_it_has_timed_out(
    caller: ApiCaller, api_url: str
) -> None:
    """The HTTP parser does not report a malformed chunk to whoever reads the body."""
    async with raw_connection(api_url) as connection:
        await connection.send(post(caller, b"Transfer-Encoding: chunked", EXPECT))
        assert (await connection.read_head()).startswith("HTTP/1.1 100")
        await connection.send(b"zz\r\n")
        assert_refused(await connection.read_reply(), 400, 400589)
