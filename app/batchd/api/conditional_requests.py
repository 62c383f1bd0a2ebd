"""Conditional requests (RFC 9110, section 13): entity tags, and 304 for an unchanged response."""

from hashlib import blake2b

from aiohttp import web

from batchd.api.responses import json_response, response


def revalidated(request: web.Request, body: bytes) -> web.Response:
    """Return the body with its entity tag, or 304 if the caller already has the same body."""
    etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if "If-None-Match" in request.headers and _matches(
        ", ".join(request.headers.getall("If-None-Match")), etag
    ):
        return response(None, content_type=None, status=304, headers=headers)
    return json_response(body, headers=headers)


def _matches(if_none_match: str, etag: str) -> bool:
    return if_none_match in {etag, "*"} or any(
        candidate.strip().removeprefix("W/") == etag for candidate in if_none_match.split(",")
    )
