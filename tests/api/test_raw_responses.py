"""Responses byte by byte: the requirements of HTTP beyond those of the contract."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from tests.support.callers import ApiCaller
from tests.support.raw_http import RawConnection, raw_connection, request
from tests.support.refusals import assert_refused

HEALTHZ = b"GET /healthz HTTP/1.1"


@pytest.fixture
def authorization(caller: ApiCaller) -> bytes:
    return f"Authorization: {caller.user.secret}".encode()


async def test_responses_describe_their_content(api_url: str, authorization: bytes) -> None:
    sent_at = datetime.now(UTC).replace(microsecond=0)
    async with raw_connection(api_url) as connection:
        await connection.send(request(b"GET /whoami HTTP/1.1", authorization))
        reply = await connection.read_reply()
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert reply.headers["Server"] == "batchd"
    assert len(reply.headers["X-Request-Id"]) == 32
    assert "Connection" not in reply.headers
    assert sent_at <= parsedate_to_datetime(reply.headers["Date"]) <= datetime.now(UTC)
    assert len(set(reply.headers)) == len(reply.headers)


@pytest.mark.parametrize(
    ("first", "header", "expected_connection", "stays"),
    [
        (b"GET /healthz HTTP/1.1", b"X: 1", None, True),
        (b"GET /healthz HTTP/1.1", b"Connection: keep-alive", None, True),
        (b"GET /healthz HTTP/1.1", b"Connection: close", "close", False),
        (b"GET /healthz HTTP/1.0", b"X: 1", None, False),
        (b"GET /healthz HTTP/1.0", b"Connection: keep-alive", "keep-alive", True),
        (b"GET /nowhere HTTP/1.1", b"Connection: close", "close", False),
        (b"GET /nowhere HTTP/1.0", b"X: 1", None, False),
    ],
)
async def test_connection_persists_as_the_version_and_the_client_request(
    api_url: str, first: bytes, header: bytes, expected_connection: str | None, *, stays: bool
) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(request(first, header))
        reply = await connection.read_reply()
        assert reply.status == (404 if b"nowhere" in first else 200)
        assert reply.headers.get("Connection") == expected_connection
        if stays:
            await assert_alive(connection)
        else:
            assert await connection.is_closed()


async def test_unsupported_version_is_refused(api_url: str) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(request(b"GET /healthz HTTP/2.0"))
        assert_refused(await connection.read_reply(), 400, 400589)
        assert await connection.is_closed()


async def test_only_http_white_space_is_stripped_from_a_secret(
    caller: ApiCaller, api_url: str, subtests: pytest.Subtests
) -> None:
    async with raw_connection(api_url) as connection:
        for spaces, status in (("  \t", 200), ("\u00a0", 401)):
            with subtests.test(spaces=spaces, status=status):
                secret = f"Authorization: {spaces}{caller.user.secret}".encode()
                await connection.send(request(b"GET /whoami HTTP/1.1", secret))
                assert (await connection.read_reply()).status == status


async def assert_alive(connection: RawConnection) -> None:
    await connection.send(request(HEALTHZ))
    assert (await connection.read_reply()).body == {"status": "alive"}


async def test_pipelined_requests_are_answered_in_order(api_url: str, authorization: bytes) -> None:
    calls = [b"GET /whoami HTTP/1.1", HEALTHZ, b"GET /nowhere HTTP/1.1", HEALTHZ]
    async with raw_connection(api_url) as connection:
        await connection.send(b"".join(request(call, authorization) for call in calls))
        replies = [await connection.read_reply() for _ in calls]
    assert [reply.status for reply in replies] == [200, 200, 404, 200]
    assert replies[1].body == replies[3].body == {"status": "alive"}
    assert len({reply.headers["X-Request-Id"] for reply in replies}) == len(calls)


async def test_head_response_has_no_body(api_url: str) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(request(b"HEAD /healthz HTTP/1.1") + request(HEALTHZ))
        head = await connection.read_head()
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "\r\nContent-Length: 18\r\n" in head
        # What comes next is not its body, but the next answer.
        assert (await connection.read_reply()).body == {"status": "alive"}


async def test_not_modified_response_has_neither_body_nor_length(
    caller: ApiCaller, api_url: str, authorization: bytes
) -> None:
    batch = await caller.create(b"")
    first = f"GET /batches/{batch} HTTP/1.1".encode()
    async with raw_connection(api_url) as connection:
        await connection.send(request(first, authorization, b"If-None-Match: *"))
        reply = await connection.read_reply()
        assert reply.status == 304
        assert "ETag" in reply.headers
        assert not {"Content-Length", "Content-Type", "Transfer-Encoding"} & set(reply.headers)
        await assert_alive(connection)
