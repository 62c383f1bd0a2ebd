"""Malformed HTTP, sent as raw bytes: refused as the contract says, never with a 5xx."""

import gzip
import json
import logging
import random
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.raw_http import raw_connection, request
from tests.support.refusals import assert_refused

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
WHOAMI = b"GET /whoami HTTP/1.1"
POST = b"POST /batches HTTP/1.1"
UNREADABLE = {
    "not_http": b"hello there\r\n\r\n",
    "binary": b"\x00\x01\x02\xff\r\n\r\n",
    "tls_hello": bytes.fromhex("16030100c8010000c40303") + bytes(100),
    "http_2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown_version": request(b"GET /whoami HTTP/3.0"),
    "unknown_method": request(b"BREW /whoami HTTP/1.1"),
    "bad_method": request(b"G@T /whoami HTTP/1.1"),
    "no_slash": request(b"GET whoami HTTP/1.1"),
    "bad_address": request(b"GET http://[::1/whoami HTTP/1.1"),
    "bytes_in_path": request(b"GET /batches/\xff\xfe HTTP/1.1"),
    "bytes_in_query": request(b"GET /batches?status=\xff HTTP/1.1"),
    "nul_in_path": request(b"GET /batches/\x00 HTTP/1.1"),
    "line_too_long": request(b"GET /" + b"a" * 9000 + b" HTTP/1.1"),
    "query_too_long": request(b"GET /batches?cursor=" + b"a" * 9000 + b" HTTP/1.1"),
    "header_too_long": request(WHOAMI, b"X: " + b"a" * 9000),
    "too_many_headers": request(WHOAMI, *(b"X%d: 1" % n for n in range(2000))),
    "headers_too_large": request(WHOAMI, *(b"X%d: %b" % (n, b"a" * 1000) for n in range(300))),
    "no_colon": request(WHOAMI, b"nothing"),
    "space_in_header_name": request(WHOAMI, b"X Y: 1"),
    "no_header_name": request(WHOAMI, b": 1"),
    "nul_in_header": request(WHOAMI, b"X: a\x00b"),
    "control_in_header": request(WHOAMI, b"Authorization: a\x01b"),
    "folded_header": request(WHOAMI, b" folded: 1"),
    "bare_line_feeds": b"GET /whoami HTTP/1.1\nHost: localhost\n\n",
    "no_host": b"GET /whoami HTTP/1.1\r\n\r\n",
    "two_hosts": request(WHOAMI, b"Host: other"),
    "length_is_no_number": request(POST, b"Content-Length: many", body=b"{}"),
    "length_is_negative": request(POST, b"Content-Length: -2", body=b"{}"),
    "length_with_a_sign": request(POST, b"Content-Length: +2", body=b"{}"),
    "length_beyond_all_limits": request(POST, b"Content-Length: " + b"9" * 30, body=b"{}"),
    "two_lengths": request(POST, b"Content-Length: 2", b"Content-Length: 3", body=b"{}"),
    "length_and_chunks": request(POST, b"Content-Length: 2", b"Transfer-Encoding: chunked"),
    "unknown_transfer": request(POST, b"Transfer-Encoding: x", body=b"{}"),
    "body_without_a_length": request(POST, body=b"{}"),
    "bad_chunk": request(POST, b"Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n0\r\n\r\n"),
}
STATUS = {
    "unknown_method": 405,
    "line_too_long": 431,
    "query_too_long": 431,
    "header_too_long": 431,
    "too_many_headers": 431,
    "headers_too_large": 431,
}
"""Of those that are not answered with 400."""
PERCENTS = b"% %z %zz %ff %00 %ed%a0%80 %2f %0d%0aX:1 %C3%28 {}".split()


@pytest.fixture
def authorization(caller: ApiCaller) -> bytes:
    return f"Authorization: {caller.user.secret}".encode()


@pytest.fixture(autouse=True)
def no_defects(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client sends is an error in our log."""
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    assert [r.getMessage() for r in records if r.levelno >= logging.WARNING] == []


async def send(url: str, data: bytes) -> Reply:
    async with raw_connection(url) as connection:
        await connection.send(data)
        return await connection.read_reply()


async def test_unreadable_request_is_refused_and_the_connection_closed(
    api_url: str, subtests: pytest.Subtests
) -> None:
    for name, data in UNREADABLE.items():
        with subtests.test(name=name, data=data):
            async with raw_connection(api_url) as connection:
                await connection.send(data)
                reply = await connection.read_reply()
                status = STATUS.get(name, 400)
                assert_refused(reply, status, 400897 if status == 405 else 400589)
                assert await connection.is_closed(), name


async def test_expectation_that_is_not_utf_8_is_refused(api_url: str, authorization: bytes) -> None:
    data = request(POST, authorization, b"Expect: 1\x88\x88", b"Content-Length: 2", body=b"{}")
    assert "only '100-continue'" in assert_refused(await send(api_url, data), 400, 400589)


@pytest.mark.parametrize("expectation", [b"100-continue", b"x"])
async def test_unknown_path_is_not_found_whatever_the_expectation(
    api_url: str, expectation: bytes
) -> None:
    head = b"POST /nowhere HTTP/1.1"
    data = request(head, b"Expect: " + expectation, b"Content-Length: 2")
    assert_refused(await send(api_url, data), 404, 404653)


async def test_traces_of_unreadable_requests_are_logged(
    api_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "batchd")
    trace = (await send(api_url, UNREADABLE["not_http"])).body["trace"]

    assert [vars(r)["subcode"] for r in caplog.records if vars(r).get("trace") == trace] == [400589]


async def test_disconnect_before_100_continue_is_not_a_server_error(
    api_url: str, authorization: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "batchd")
    headers = [authorization, b"Expect: 100-continue", b"Content-Length: 200"]
    for _ in range(20):
        async with raw_connection(api_url) as connection:
            await connection.send(request(POST, *headers))
    await send(api_url, request(WHOAMI, authorization))

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_refused_caller_gets_no_100_continue(api_url: str) -> None:
    headers = [b"Expect: 100-continue", b"Content-Length: 2"]
    assert_refused(await send(api_url, request(POST, *headers)), 401, 401000)


async def test_too_large_body_gets_no_100_continue(api_url: str, authorization: bytes) -> None:
    headers = [authorization, b"Expect: 100-continue", b"Content-Length: 5000000000"]
    assert_refused(await send(api_url, request(POST, *headers)), 400, 400141)


async def test_expectation_of_an_http_1_0_client_is_ignored(
    api_url: str, authorization: bytes
) -> None:
    old = POST.replace(b"HTTP/1.1", b"HTTP/1.0")
    headers = [authorization, b"Expect: 100-continue", b"Content-Length: 2"]
    assert_refused(await send(api_url, request(old, *headers, body=b"{}")), 400, 400589)


async def test_unknown_expectation_is_refused(api_url: str, authorization: bytes) -> None:
    reply = await send(api_url, request(WHOAMI, authorization, b"Expect: miracles"))
    assert_refused(reply, 400, 400589)

    async with raw_connection(api_url) as connection:
        headers = [authorization, b"Expect: 100-continue", b"Content-Length: 2"]
        await connection.send(request(POST, *headers))
        assert (await connection.read_reply()).status == 100
        await connection.send(b"{}")
        assert_refused(await connection.read_reply(), 400, 400589)


async def test_bytes_that_are_not_text_are_an_invalid_secret(
    api_url: str, subtests: pytest.Subtests
) -> None:
    for secret in (
        b"\xff" * 64,
        "ä".encode() * 32,
        b"\xed\xa0\x80" * 64,
        b"Bearer \xff",
        b"",
        b" ",
    ):
        with subtests.test(secret=secret):
            reply = await send(api_url, request(WHOAMI, b"Authorization: " + secret))
            assert_refused(reply, 401, 401000)


async def test_bytes_that_are_not_text_are_an_invalid_key(
    caller: ApiCaller, api_url: str, authorization: bytes, subtests: pytest.Subtests
) -> None:
    body = json.dumps({"handler": await caller.upload(LINES), "operation": "get_batch"}).encode()
    for key in (b"\xff\xfe", "ä".encode(), b"", b"x" * 256):
        with subtests.test(key=key):
            headers = [authorization, b"Idempotency-Key: " + key, b"Content-Length: %d" % len(body)]
            reply = await send(api_url, request(POST, *headers, body=body))
            assert "Idempotency-Key" in assert_refused(reply, 400, 400589)


async def test_invalid_percent_encoding_is_refused(
    api_url: str, authorization: bytes, subtests: pytest.Subtests
) -> None:
    async with raw_connection(api_url) as connection:

        async def get(path: bytes) -> Reply:
            await connection.send(request(b"GET " + path + b" HTTP/1.1", authorization))
            return await connection.read_reply()

        for text in PERCENTS:
            with subtests.test(text=text):
                assert_refused(await get(b"/batches/" + text), 400, 400589)
                for parameter in (b"limit", b"cursor", b"ge", b"status", b"x"):
                    assert_refused(await get(b"/batches?" + parameter + b"=" + text), 400, 400589)
                assert_refused(await get(b"/batches?" + text + b"=1"), 400, 400589)
                assert_refused(await get(b"/" + text), 404, 404653)


async def test_body_that_contradicts_its_encoding_is_refused(
    api_url: str, authorization: bytes, subtests: pytest.Subtests
) -> None:
    packed = gzip.compress(b"{" * 1000)
    damaged = packed[:20] + b"\x00" * 10 + packed[30:]
    for encoding, body in ((b"gzip", b"{}"), (b"deflate", b"\xff"), (b"gzip", damaged)):
        with subtests.test(encoding=encoding, body=body):
            headers = [b"Content-Encoding: " + encoding, b"Content-Length: %d" % len(body)]
            reply = await send(api_url, request(POST, authorization, *headers, body=body))
            assert_refused(reply, 400, 400589)
            reply = await send(api_url, request(WHOAMI, authorization, *headers, body=body))
            assert reply.status in {200, 400}


async def test_body_that_is_too_large_after_decompression_is_refused(
    api_url: str, authorization: bytes
) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    headers = [b"Content-Encoding: gzip", b"Content-Length: %d" % len(bomb)]

    reply = await send(api_url, request(POST, authorization, *headers, body=bomb))
    assert_refused(reply, 400, 400141)


async def test_incomplete_chunked_body_is_refused(api_url: str, authorization: bytes) -> None:
    async with raw_connection(api_url) as connection:
        begin = request(POST, authorization, b"Transfer-Encoding: chunked", body=b"1\r\n{\r\n")
        await connection.send(begin)
        await connection.send(b"zz\r\n")
        assert_refused(await connection.read_reply(), 400, 400589)


@pytest.mark.slow
async def test_changed_bytes_always_get_a_response_of_the_contract(
    caller: ApiCaller, api_url: str, authorization: bytes, subtests: pytest.Subtests
) -> None:
    chance = random.Random(1)
    valid_request = request(b"GET /batches?limit=10 HTTP/1.1", authorization, b"If-None-Match: *")
    end = b"\r\n" * 4
    statuses = set()
    for _ in range(400):
        with subtests.test():
            data = bytearray(valid_request)
            for _ in range(chance.choice((1, 1, 2, 8))):
                data[chance.randrange(len(data))] = chance.randrange(256)
            reply = await send(api_url, bytes(data) + end)
            statuses.add(reply.status)
            if reply.status not in {200, 304}:
                assert_refused(reply, reply.status, reply.body["subcode"])
    assert {200, 304, 400, 401, 404} <= statuses <= {200, 304, 400, 401, 404, 405}


async def test_connection_persists_after_ordinary_failures(
    api_url: str, authorization: bytes
) -> None:
    large = b"x" * 70_000
    length = b"Content-Length: %d"
    other = str(uuid4()).encode()
    calls = [
        (request(b"GET /nowhere HTTP/1.1"), 404, 404653),
        (request(WHOAMI), 401, 401000),
        (request(b"PUT /whoami HTTP/1.1", authorization), 405, 400897),
        (request(b"GET /batches/x HTTP/1.1", authorization), 400, 400589),
        (request(b"GET /batches/" + other + b" HTTP/1.1", authorization), 404, 404653),
        (request(POST, authorization, length % 1, body=b"{"), 400, 400415),
        (request(POST, authorization, length % 1, body=b"\xff"), 400, 400314),
        (request(POST, authorization, length % len(large), body=large), 400, 400141),
        (request(POST, length % len(large), body=large), 401, 401000),
        (request(WHOAMI, authorization, b"Expect: miracles"), 400, 400589),
    ]
    async with raw_connection(api_url) as connection:
        for data, status, subcode in calls:
            await connection.send(data)
            assert_refused(await connection.read_reply(), status, subcode)
        await connection.send(request(WHOAMI, authorization))
        assert (await connection.read_reply()).status == 200


@pytest.mark.parametrize("other", [b"x" * 64, b""], ids=["unknown", "empty"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "second"])
async def test_two_secrets_are_none(
    api_url: str, authorization: bytes, other: bytes, is_first: bool
) -> None:
    headers = [authorization, b"Authorization: " + other]
    reply = await send(api_url, request(WHOAMI, *(headers if is_first else headers[::-1])))
    assert_refused(reply, 401, 401000)


@pytest.mark.parametrize("coding", [b"br", b"zstd"])
async def test_a_content_coding_that_is_not_supported_is_named(
    api_url: str, authorization: bytes, coding: bytes
) -> None:
    headers = (authorization, b"Content-Encoding: " + coding, b"Content-Length: 2")
    reply = await send(api_url, request(POST, *headers, body=b"{}"))
    assert "Content-Encoding" in assert_refused(reply, 400, 400589)
