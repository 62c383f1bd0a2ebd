"""HTTP operations: how a response, or the lack of one, becomes a result."""

import logging
from typing import Any

import pytest
from aiohttp import web

from tests.support.http_operations import GET, Declare, body, run
from tests.support.upstream import Upstream, answering_bytes, broken_off, bytes_of, hanging


@pytest.mark.parametrize(
    ("content_type", "data", "expected"),
    [
        ("application/json", b'{\n "a" : [1, 2.50, 1e400]\r\n}', b'{"a":[1,2.50,1e400]}'),
        ("application/problem+json", b'{"a": "\xc3\xbc"}', '{"a":"ü"}'.encode()),
        ("application/json", b"\xef\xbb\xbf[ ]", b"[]"),
        ("application/json; charset=utf-16", '{"a": 1}'.encode("utf-16"), b'{"a":1}'),
        ("application/json", b"{oops}\n", b'{"text":"{oops}\\n"}'),
        ("application/json", b"[" * 50_000, None),
        ("application/json", b'"\xff"', b'{"base64":"Iv8i"}'),
        ("text/html", b"<p>1</p>\n", b'{"text":"<p>1</p>\\n"}'),
        ("text/plain; charset=iso-8859-1", b"\xfc", '{"text":"ü"}'.encode()),
        ("text/plain; charset=punycode", b"a", b'{"base64":"YQ=="}'),
        ("text/plain", b"1", b'{"text":"1"}'),
        ("image/png", b"\x89PNG", b'{"base64":"iVBORw=="}'),
        ("application/json", b"", b"null"),
    ],
)
async def test_response_becomes_json_on_one_line(
    declare: Declare, upstream: Upstream, content_type: str, data: bytes, expected: bytes | None
) -> None:
    upstream.reply(bytes_of(data, content_type))
    source = await declare(GET, BASE=upstream.url)
    result = await run(source, path={"x": "1"})
    assert result.succeeded
    assert body(result.body) is not ...
    assert expected is None or result.body == expected


async def test_response_without_a_media_type_may_be_json(declare: Declare) -> None:
    async with answering_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[ ]") as url:
        source = await declare(GET, BASE=url)
        assert (await run(source, path={"x": "1"})).body == b"[]"


async def test_compression_is_neither_requested_nor_decoded(
    declare: Declare, upstream: Upstream
) -> None:
    upstream.reply(bytes_of(b"\x1f\x8b", **{"Content-Encoding": "gzip"}))
    source = await declare(GET, BASE=upstream.url)
    assert body((await run(source, path={"x": "1"})).body) == {"base64": "H4s="}
    assert upstream.requests[0].headers["accept-encoding"] == "identity"


async def stream(request: web.Request) -> web.StreamResponse:
    """Send more than 100 bytes, without a Content-Length."""
    response = web.StreamResponse(status=201)
    await response.prepare(request)
    for _ in range(3):
        await response.write(b"x" * 50)
    return response


@pytest.mark.parametrize(
    "reply",
    [lambda: stream, bytes_of(b"[" + b" " * 100 + b"]")],
    ids=["unknown size", "known size"],
)
async def test_response_over_the_limit_is_a_failure(
    declare: Declare, upstream: Upstream, reply: Any
) -> None:
    upstream.reply(reply)
    source = await declare(GET + "max_answer_bytes = 100", BASE=upstream.url)
    result = await run(source, path={"x": "1"})
    assert result.status in {200, 201}
    assert not result.succeeded
    error = body(result.body)
    assert error["subcode"] == 400141
    assert (
        f"responded with status {result.status} and a body larger than the limit of 100 bytes"
        in error["description"]
    )


@pytest.mark.parametrize("status", ["600", "999", "099", "000"])
async def test_status_that_http_does_not_have_is_a_failure(declare: Declare, status: str) -> None:
    async with answering_bytes(
        f"HTTP/1.1 {status} What\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    ) as url:
        result = await run(await declare(GET, BASE=url), path={"x": "1"})
    assert (result.status, result.succeeded) == (503, False)
    error = body(result.body)
    assert error["subcode"] == 503159
    assert error["description"] == (
        f"The upstream of 'op' responded with status {int(status)}, which is not an HTTP status."
    )


async def test_response_of_exactly_the_limit_is_accepted(
    declare: Declare, upstream: Upstream
) -> None:
    upstream.reply(bytes_of(b"[" + b" " * 98 + b"]"))
    source = await declare(GET + "max_answer_bytes = 100", BASE=upstream.url)
    assert (await run(source, path={"x": "1"})).body == b"[]"


@pytest.mark.parametrize(
    ("rule", "status", "succeeded"),
    [
        ("", 204, True),
        ("", 304, False),
        ("", 404, False),
        ("success = [200]", 201, False),
        ('success = ["2xx", 404]', 404, True),
        ('success = ["400-404"]', 404, True),
        ('success = ["400-404"]', 405, False),
    ],
)
async def test_file_defines_which_statuses_are_a_success(
    declare: Declare, upstream: Upstream, rule: str, status: int, succeeded: bool
) -> None:
    upstream.statuses([status])
    source = await declare(GET + rule, BASE=upstream.url)
    result = await run(source, path={"x": "1"})
    assert (result.status, result.succeeded) == (status, succeeded)


# No response


REFUSED = "the connection failed"
BROKEN = "the connection was closed early, or the response was not valid HTTP"
RETRY = "retry = { attempts = 3 }"


def assert_no_response(result: Any, reason: str) -> None:
    assert (result.status, result.succeeded) == (503, False)
    error = body(result.body)
    assert error.keys() == {"subcode", "trace", "description"}
    assert error["subcode"] == 503159
    assert error["description"] == (
        f"No response from the upstream of 'op' in attempt 3 of 3: {reason}."
    )


async def test_upstream_that_times_out(declare: Declare, upstream: Upstream) -> None:
    upstream.reply(lambda: hanging)
    source = await declare(GET + f"timeout_s = 0.05\n{RETRY}", BASE=upstream.url)
    assert_no_response(await run(source, path={"x": "1"}), "timed out after 0.05 s")
    assert len(upstream.requests) == 3


async def test_upstream_that_closes_the_connection(declare: Declare, upstream: Upstream) -> None:
    upstream.reply(lambda: broken_off)
    source = await declare(GET + RETRY, BASE=upstream.url)
    assert_no_response(await run(source, path={"x": "1"}), BROKEN)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_upstream_without_valid_http(declare: Declare, response: bytes) -> None:
    async with answering_bytes(response) as url:
        source = await declare(GET + RETRY, BASE=url)
        assert_no_response(await run(source, path={"x": "1"}), BROKEN)


async def test_unreachable_upstream_leaves_no_secret_in_the_log(
    declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering_bytes(b"") as url:
        pass
    text = GET + 'headers = { Authorization = "${TOKEN}" }\n' + RETRY
    source = await declare(text, BASE=url, TOKEN="s3cret")
    with caplog.at_level(logging.INFO):
        result = await run(source, path={"x": "1"})
    assert_no_response(result, REFUSED)
    assert url.removeprefix("http://") not in result.body.decode()
    assert body(result.body)["trace"] in caplog.text
    assert "s3cret" not in caplog.text
