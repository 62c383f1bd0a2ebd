"""A trailer of one request never becomes a header of the next one on the same connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from importlib.metadata import version
from unittest.mock import create_autospec

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.test_utils import BaseTestServer, TestServer

from batchd.api.app import create_app
from batchd.bootstrap import Components
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.live import LiveServer
from tests.support.raw_http import raw_connection, request

WHOAMI = b"GET /whoami HTTP/1.1"
CHUNKED = b"Transfer-Encoding: chunked"


def chunks(*trailer: bytes) -> bytes:
    """Return an empty chunked body and its trailer."""
    return b"\r\n".join([b"0", *trailer, b"", b""])


@pytest.fixture(params=["batchd's connections", "aiohttp's connections"])
async def api_url(
    request: pytest.FixtureRequest, settings: Settings, components: Components
) -> AsyncIterator[str]:
    """Serve the API as `batchd api` does, then as other runners of aiohttp's do, gunicorn's too."""
    server: BaseTestServer = LiveServer(settings, components)
    if request.param == "aiohttp's connections":
        app = create_app(settings, lambda: nullcontext(components.services))
        server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    yield str(server.make_url("")).rstrip("/")
    await server.close()


@pytest.fixture
def authorization(caller: ApiCaller) -> bytes:
    return f"Authorization: {caller.user.secret}".encode()


FIRST = {
    "200": (WHOAMI, True),
    "400": (b"GET /batches/x HTTP/1.1", True),
    "401": (WHOAMI, False),
    "404": (b"GET /nowhere HTTP/1.1", False),
    "405": (b"PUT /whoami HTTP/1.1", False),
    "400 body": (b"POST /batches HTTP/1.1", True),
    "process": (b"GET /healthz HTTP/1.1", False),
    "head": (b"HEAD /healthz HTTP/1.1", False),
    "options": (b"OPTIONS /whoami HTTP/1.1", False),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("trailers", [1, 2])
async def test_trailer_does_not_become_a_header_of_the_next_request(
    api_url: str, authorization: bytes, first: str, trailers: int
) -> None:
    line, authorized = FIRST[first]
    headers = [authorization] if authorized else []
    chunked = request(line, *headers, CHUNKED, body=chunks(*[authorization] * trailers))
    async with raw_connection(api_url) as connection:
        # A proxy would send the request of its next client on this connection.
        await connection.send(chunked + request(WHOAMI))
        head = await connection.read_head()
        assert "\r\nConnection: close\r\n" in head
        rest = await connection.read_to_end()
    assert b"HTTP/1.1" not in rest


@pytest.mark.parametrize("coding", [b"chunked", b"gzip, chunked", b"Chunked"])
async def test_no_request_is_handled_after_a_chunked_one(
    api_url: str, authorization: bytes, coding: bytes
) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(
            request(WHOAMI, b"Transfer-Encoding: " + coding, body=chunks(authorization))
        )
        await connection.read_head()
        await connection.send(request(WHOAMI))
        assert b"HTTP/1.1" not in await connection.read_to_end()


async def test_chunked_body_without_a_trailer_is_served(api_url: str, authorization: bytes) -> None:
    """The connection is closed all the same: that there is no trailer is known too late."""
    async with raw_connection(api_url) as connection:
        await connection.send(request(WHOAMI, authorization, CHUNKED, body=chunks()))
        reply = await connection.read_reply()
        assert reply.status == 200
        assert reply.headers["Connection"] == "close"
        assert await connection.is_closed()


async def test_parser_still_needs_the_workaround() -> None:
    """Once this fails, raise aiohttp's lower bound in setup.cfg and remove the guard.

    The guard is `batchd.api.request_trailers`. It is needed for every aiohttp of setup.cfg's range
    (from 3.14) up to the version that the lock files have, at least 3.14.5.
    """
    parser = HttpRequestParser(
        create_autospec(BaseProtocol, instance=True), asyncio.get_running_loop(), 2**16
    )
    parser.feed_data(request(WHOAMI, CHUNKED, body=chunks(b"Authorization: stolen")))
    messages, _, _ = parser.feed_data(request(WHOAMI))
    ((message, _),) = messages
    assert message.headers.get("Authorization") == "stolen", (
        f"aiohttp {version('aiohttp')} no longer carries a trailer over: require it in setup.cfg, "
        "and remove batchd.api.request_trailers with these tests' expectation of a close"
    )
