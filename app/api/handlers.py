"""From an HTTP request to an operation's parts, and from its answer back."""

from collections.abc import Mapping
from hashlib import blake2b

from aiohttp import web

from batchd.api.failures import Handler
from batchd.api.keys import OVERLOAD, RATE_LIMIT, SERVICES
from batchd.domain.callers import Caller
from batchd.domain.errors import BatchdError, QuotaViolation, RequestFormat
from batchd.domain.operations import Parts
from batchd.endpoints.answers import BatchAnswer
from batchd.endpoints.table import Endpoint
from batchd.endpoints.wire import encode

MAX_BODY = 64 * 1024
_JSON = {"Content-Type": "application/json; charset=utf-8"}


def handler_of(endpoint: Endpoint) -> Handler:
    """Return the handler of an operation: authenticate, call its service, present the answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        with request.app[OVERLOAD]:
            caller = await _authenticate(request)
            parts = await _parts(request, endpoint)
            answer = await endpoint.act(request.app[SERVICES].api, caller, parts)
        body = encode(answer)
        if endpoint.method != "GET" or (isinstance(answer, BatchAnswer) and answer.download):
            return _json(body, status=endpoint.success, headers={"Cache-Control": "no-store"})
        return _revalidated(request, body)

    return handle


async def _authenticate(request: web.Request) -> Caller:
    caller = await request.app[SERVICES].callers.authenticate(_secret(request))
    request.app[RATE_LIMIT].take(caller.user)
    return caller


def _secret(request: web.Request) -> str | None:
    """Take the secret as it is, or as a bearer token (RFC 6750; the scheme in any case)."""
    header = request.headers.get("Authorization", "").strip()
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else header or None


async def _parts(request: web.Request, endpoint: Endpoint) -> Parts:
    """Take the request apart. Nothing is judged here: the service first checks the permission."""
    key = request.headers.get("Idempotency-Key") if endpoint.takes_idempotency_key else None
    return Parts(
        path=dict(request.match_info),
        query=_query(request),
        body=await _body(request) if endpoint.body_form is not None else None,
        idempotency_key=key,
    )


def _query(request: web.Request) -> Mapping[str, object]:
    """Return the parameters; one that is given twice has no one value and becomes a list."""
    if not request.query_string:
        return {}
    query = request.query
    return {
        name: values[0] if len(values) == 1 else values
        for name in query
        for values in [query.getall(name)]
    }


async def _body(request: web.Request) -> bytes | BatchdError:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return QuotaViolation(f"The body is larger than {MAX_BODY // 1024} kB.")
    except web.RequestPayloadError:
        return RequestFormat(
            "The body can't be read: it is not what Content-Encoding or Transfer-Encoding say."
        )


def _revalidated(request: web.Request, body: bytes) -> web.Response:
    """Answer 304 to a caller that has this very answer already (RFC 9110, section 13.1.2)."""
    etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if "If-None-Match" in request.headers and _matches(
        ", ".join(request.headers.getall("If-None-Match")), etag
    ):
        return web.Response(status=304, headers=headers)
    return _json(body, status=200, headers=headers)


def _matches(if_none_match: str, etag: str) -> bool:
    return if_none_match in {etag, "*"} or any(
        candidate.strip().removeprefix("W/") == etag for candidate in if_none_match.split(",")
    )


def _json(body: bytes, *, status: int, headers: Mapping[str, str]) -> web.Response:
    # The type among the headers: as an argument of its own it would be taken apart again.
    return web.Response(body=body, status=status, headers={**_JSON, **headers})
