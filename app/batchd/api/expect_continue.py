"""The header Expect (RFC 9110, section 10.1.1): a client may wait until its body is requested."""

from contextlib import suppress

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy

from batchd.domain.errors import RequestFormat

EXPECTATION = web.RequestKey("expectation", str)
"""The key of a request's Expect header: aiohttp itself would handle that of an unknown path."""


def take(message: RawRequestMessage) -> tuple[RawRequestMessage, str | None]:
    """Return a head without its Expect header, and the header's value."""
    expectation = message.headers.get(hdrs.EXPECT)
    if expectation is None:
        return message, None
    headers = CIMultiDict(message.headers)
    del headers[hdrs.EXPECT]
    return message._replace(headers=CIMultiDictProxy(headers)), expectation


def _expectation(request: web.Request) -> str | None:
    if request.version < HttpVersion11:
        return None
    # Under gunicorn's worker it is still one of the headers.
    return request.get(EXPECTATION) or request.headers.get(hdrs.EXPECT)


async def defer(_: web.Request) -> None:
    """Replace aiohttp's own handler, which requests the body before the caller is authenticated."""


def check(request: web.Request) -> None:
    """Raise RequestFormat for an expectation that can't be met."""
    expectation = _expectation(request)
    if expectation is not None and expectation.lower() != "100-continue":
        raise RequestFormat(f"The expectation '{expectation}' can't be met, only '100-continue'.")


async def request_body(request: web.Request) -> None:
    """Send 100 Continue to a client that waits for it."""
    if _expectation(request) is None:
        return
    # A client that has left will not send the body either; that is handled when it is read.
    with suppress(ConnectionError):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The final response has not begun yet.
    request.writer.output_size = 0
