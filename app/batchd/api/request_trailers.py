"""Keeps the trailer of a chunked request out of the request after it on the same connection."""

from aiohttp import web


def end_connection_after_trailer(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Close the connection after the response if the request's body was chunked.

    aiohttp's C parser keeps the name and value of the last trailer field (RFC 9112, section 7.1.2)
    and makes them the first header of the next request. Where a proxy shares its connections among
    clients, that request is another client's: `Authorization` in a trailer would decide whose
    permissions it has. Requests pipelined after a chunked one are parsed, but never handled.

    tests/api/test_request_trailers.py fails as soon as the parser is fixed.
    """
    if "Transfer-Encoding" in request.headers:
        response.force_close()
