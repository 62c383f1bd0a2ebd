"""The header Expect (RFC 9110, section 10.1.1): its client waits to be asked for the body."""

from contextlib import suppress

from aiohttp import HttpVersion11, web

from batchd.domain.errors import RequestFormat


def check(request: web.BaseRequest) -> None:
    """Raise RequestFormat if something is expected that can't be met."""
    expected = request.headers.get("Expect")
    if expected is None or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        raise RequestFormat(f"The expectation '{expected}' can't be met, only '100-continue'.")


async def ask_for_body(request: web.BaseRequest) -> None:
    """Ask for it, if the client waits for that."""
    if "Expect" not in request.headers or request.version < HttpVersion11:
        return
    # Who has left will not send the body either, and is dealt with then.
    with suppress(ConnectionError):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The answer itself has not begun yet.
    request.writer.output_size = 0
