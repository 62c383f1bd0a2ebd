"""Silent, slow and surplus connections are closed; half-closed ones get their responses."""

import re
import time
from contextlib import AsyncExitStack

import pytest

from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.databases import row_lock
from tests.support.polling import NEVER_S, eventually
from tests.support.raw_http import RawConnection, raw_connection, request
from tests.support.refusals import assert_refused

HEALTHZ = request(b"GET /healthz HTTP/1.1")
SHORT_S = 0.3


@pytest.fixture
def api_url(url_on_each_loop: str) -> str:
    return url_on_each_loop


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Return the settings with what a test changes of them, by indirect parametrization."""
    names = ("header_timeout_s", "keepalive_timeout_s", "body_timeout_s")
    return settings.model_copy(update=dict.fromkeys(names, NEVER_S) | getattr(request, "param", {}))


@pytest.fixture
def authorization(caller: ApiCaller) -> bytes:
    return f"Authorization: {caller.user.secret}".encode()


def with_settings(**settings: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [settings], indirect=True)


async def assert_served(connection: RawConnection) -> None:
    await connection.send(HEALTHZ)
    assert (await connection.read_reply()).status == 200


@with_settings(header_timeout_s=SHORT_S)
async def test_silent_connection_is_closed(api_url: str) -> None:
    async with raw_connection(api_url) as connection:
        assert await connection.read_to_end() == b""


@with_settings(header_timeout_s=SHORT_S)
@pytest.mark.parametrize("served_before", [False, True])
@pytest.mark.parametrize("part", [HEALTHZ[:1], HEALTHZ[:-1], b"GET /healthz HTTP/1.1\r\n"])
async def test_incomplete_head_is_refused(
    api_url: str, part: bytes, *, served_before: bool
) -> None:
    async with raw_connection(api_url) as connection:
        if served_before:
            await assert_served(connection)
        await connection.send(part)
        assert "0.3 s" in assert_refused(await connection.read_reply(), 400, 400589)
        assert await connection.is_closed()


@with_settings(header_timeout_s=SHORT_S)
async def test_slow_head_is_refused(api_url: str) -> None:
    """The deadline is for the whole head: no byte moves it."""
    started = time.monotonic()
    async with raw_connection(api_url) as connection:
        await connection.send(HEALTHZ[:-2])

        async def trickle() -> bytes:
            await connection.send(b"X: 1\r\n")
            return await connection.read_some(within_s=0.05)

        response = await eventually(trickle, bool)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert time.monotonic() - started >= SHORT_S


@with_settings(header_timeout_s=SHORT_S)
async def test_idle_connection_outlives_the_deadline_of_a_head(api_url: str) -> None:
    async with raw_connection(api_url) as connection:
        await assert_served(connection)
        assert await connection.read_some(within_s=3 * SHORT_S) == b""
        await assert_served(connection)


@with_settings(header_timeout_s=SHORT_S)
async def test_body_after_the_response_is_not_parsed_as_a_head(api_url: str) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(request(b"POST /batches HTTP/1.1", b"Content-Length: 4"))
        assert_refused(await connection.read_reply(), 401, 401000)
        for byte in (b"a", b"b", b"c", b"d"):
            await connection.send(byte)
            assert await connection.read_some(within_s=SHORT_S / 2) == b""
        assert await connection.read_some(within_s=2 * SHORT_S) == b""
        await assert_served(connection)


@with_settings(keepalive_timeout_s=SHORT_S)
async def test_idle_connection_is_closed(api_url: str) -> None:
    async with raw_connection(api_url) as connection:
        await assert_served(connection)
        assert await connection.is_closed()


@with_settings(keepalive_timeout_s=SHORT_S)
async def test_client_that_does_not_read_is_disconnected(api_url: str, caller: ApiCaller) -> None:
    """Its answers fill the buffers: whoever never reads them would hold the connection for ever."""
    async with raw_connection(api_url, receive_buffer=4096) as connection:
        connection.stop_reading()
        openapi = request(b"GET /openapi.json HTTP/1.1")

        async def refused() -> bool:
            try:
                await connection.send(openapi * 20, within_s=0.05)
            except ConnectionError:
                return True
            except TimeoutError:
                pass
            return False

        assert await eventually(refused, bool)


@with_settings(max_connections=3)
async def test_connections_beyond_the_limit_are_refused(
    api_url: str,
) -> None:
    async with AsyncExitStack() as stack:
        accepted = [await stack.enter_async_context(raw_connection(api_url)) for _ in range(3)]
        for connection in accepted:
            await assert_served(connection)
        async with raw_connection(api_url) as refused:
            reply = await refused.read_reply()
            assert_refused(reply, 503, 503159)
            assert int(reply.headers["Retry-After"]) > 0
            assert await refused.is_closed()
        for connection in accepted:
            await assert_served(connection)
        accepted[0].break_off()

        async def served() -> bool:
            async with raw_connection(api_url) as replacement:
                await replacement.send(HEALTHZ)
                return (await replacement.read_reply()).status == 200

        assert await eventually(served, bool)
        await accepted[1].send(request(b"GET /metrics HTTP/1.1", b"Connection: close"))
        metrics = (await accepted[1].read_to_end()).decode()
    assert 'batchd_connections_closed_total{reason="too_many"}' in metrics
    assert re.search(r"^batchd_connections [1-9]", metrics, re.MULTILINE)


async def test_half_closed_client_gets_its_response(
    api_url: str, caller: ApiCaller, authorization: bytes, subtests: pytest.Subtests
) -> None:
    get = request(b"GET /batches HTTP/1.1", authorization)
    post = request(b"POST /batches HTTP/1.1", authorization, b"Content-Length: 2", body=b"{}")
    for data, status in ((HEALTHZ, 200), (get, 200), (post, 400)):
        with subtests.test(data=data, status=status):
            async with raw_connection(api_url) as connection:
                await connection.send(data)
                await connection.end_sending()
                assert (await connection.read_reply()).status == status
                assert await connection.is_closed()


async def test_half_closed_client_gets_all_pipelined_responses(
    api_url: str, authorization: bytes
) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(request(b"GET /batches HTTP/1.1", authorization) + HEALTHZ * 9)
        await connection.end_sending()
        replies = [await connection.read_reply() for _ in range(10)]
        assert [reply.status for reply in replies] == [200] * 10
        assert await connection.is_closed()


async def test_slow_response_reaches_a_half_closed_client(
    api_url: str, caller: ApiCaller, authorization: bytes, database_url: str
) -> None:
    batch = await caller.create(b"")
    body = b'{"status": "cancel"}'
    headers = [authorization, b"Content-Length: %d" % len(body)]
    patch = request(f"PATCH /batches/{batch} HTTP/1.1".encode(), *headers, body=body)
    async with raw_connection(api_url) as connection:
        async with row_lock(database_url, "batches"):
            await connection.send(patch)
            await connection.end_sending()
            assert await connection.read_some(within_s=0.3) == b""
        assert (await connection.read_reply()).body["status"] == "cancel"


@pytest.mark.parametrize("framing", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
async def test_incomplete_body_of_a_half_closed_client_is_refused(
    api_url: str, authorization: bytes, framing: bytes
) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(request(b"POST /batches HTTP/1.1", authorization, framing))
        await connection.end_sending()
        assert_refused(await connection.read_reply(), 400, 400589)
        assert await connection.is_closed()


@pytest.mark.parametrize("data", [b"", HEALTHZ[:10]])
async def test_half_closed_connection_without_a_request_is_closed(
    api_url: str, data: bytes
) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(data)
        await connection.end_sending()
        assert await connection.read_to_end() == b""
