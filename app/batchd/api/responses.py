"""Responses of the API: JSON, with the headers that all of them have."""

from collections.abc import Mapping

from aiohttp import web
from multidict import CIMultiDict

JSON = "application/json; charset=utf-8"
NO_STORE = {"Cache-Control": "no-store"}
"""For responses that are valid only now, or only for their caller."""


def json_response(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response with encoded JSON as its body."""
    return response(body, content_type=JSON, status=status, headers=headers)


def response(
    body: bytes | None,
    *,
    content_type: str | None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return a response; without a content type it has no body, like a 304."""
    # "Server" would name the versions of Python and aiohttp.
    fields = CIMultiDict({"Server": "batchd", "X-Content-Type-Options": "nosniff"})
    if content_type is not None:
        fields["Content-Type"] = content_type
    if headers:
        fields.update(headers)
    return web.Response(body=body, status=status, headers=fields)
