"""The header Expect (RFC 9110, section 10.1.1): a client may wait until its body is requested."""

from contextlib import suppress

from aiohttp import HttpVersion11, web

from batchd.domain.errors import RequestFormat


async def defer(_: web.Request) -> None:
    """Stand in for aiohttp's own handler, which requests the body before anybody is recognized."""


def check(request: web.Request) -> None:
    """Raise RequestFormat for an expectation that can't be met."""
    expectation = request.headers.get("Expect")
    if expectation is None or request.version < HttpVersion11:
        return
    if expectation.lower() != "100-continue":
        raise RequestFormat(f"The expectation '{expectation}' can't be met, only '100-continue'.")


async def request_body(request: web.Request) -> None:
    """Answer 100 Continue to a client that waits for it."""
    if "Expect" not in request.headers or request.version < HttpVersion11:
        return
    # A client that has left will not send the body either; that is handled when it is read.
    with suppress(ConnectionError):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The final response has not begun yet.
    request.writer.output_size = 0
