"""From an HTTP request to an operation's parts, and from its answer back."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from typing import TypeAlias

from aiohttp import web

from batchd.api import expect_continue
from batchd.api.context import AppContext
from batchd.api.responses import Response, json_answer
from batchd.domain.errors import BatchdError, QuotaViolation, RequestFormat
from batchd.domain.operations import OperationRequest
from batchd.domain.users import Caller
from batchd.operations.parsing import encode
from batchd.operations.responses import BatchResponse
from batchd.operations.table import Endpoint

Parameters: TypeAlias = Mapping[str, str]
"""Those in the path."""
Handler: TypeAlias = Callable[[AppContext, web.BaseRequest, Parameters], Awaitable[Response]]

MAX_BODY = 64 * 1024


def handler_of(endpoint: Endpoint) -> Handler:
    """Return the handler of an operation: authenticate, call its service, present the answer."""

    async def handle(
        state: AppContext, request: web.BaseRequest, parameters: Parameters
    ) -> Response:
        with state.overload:
            caller = await _authenticate(state, request)
        # A body may be long in coming: nobody else is to be refused for it.
        parts = await _parts(state, request, parameters, endpoint)
        with state.overload:
            answer = await endpoint.act(state.services.api, caller, parts)
        body = encode(answer)
        if endpoint.method != "GET" or (isinstance(answer, BatchResponse) and answer.download):
            headers = {"Cache-Control": "no-store"}
            return json_answer(body, status=endpoint.success, headers=headers)
        return _revalidated(request, body)

    return handle


async def _authenticate(state: AppContext, request: web.BaseRequest) -> Caller:
    caller = await state.services.callers.authenticate(_secret(request))
    state.rate_limit.take(caller.user)
    return caller


def _secret(request: web.BaseRequest) -> str | None:
    """Take the secret as it is, or as a bearer token (RFC 6750; the scheme in any case)."""
    header = request.headers.get("Authorization", "").strip(" \t")
    scheme, _, token = header.partition(" ")
    return token.strip(" \t") if scheme.lower() == "bearer" else header or None


async def _parts(
    state: AppContext, request: web.BaseRequest, parameters: Parameters, endpoint: Endpoint
) -> OperationRequest:
    """Take the request apart. Nothing is judged here: the service first checks the permission."""
    key = request.headers.get("Idempotency-Key") if endpoint.takes_idempotency_key else None
    return OperationRequest(
        path=parameters,
        query=_query(request),
        body=await _body(state, request) if endpoint.body_form is not None else None,
        idempotency_key=key,
    )


def _query(request: web.BaseRequest) -> Mapping[str, object]:
    """Return the parameters; one that is given twice has no one value and becomes a list."""
    if not request.query_string:
        return {}
    query = request.query
    return {
        name: values[0] if len(values) == 1 else values
        for name in query
        for values in [query.getall(name)]
    }


async def _body(state: AppContext, request: web.BaseRequest) -> bytes | BatchdError:
    too_large = QuotaViolation(f"The body is larger than {MAX_BODY // 1024} kB.")
    if (request.content_length or 0) > MAX_BODY:
        return too_large
    await expect_continue.ask_for_body(request)
    try:
        async with asyncio.timeout(state.body_timeout_s):
            return await request.read()
    except TimeoutError:
        return RequestFormat(f"The body has not come within {state.body_timeout_s:g} s.")
    except web.HTTPRequestEntityTooLarge:
        return too_large
    except web.RequestPayloadError:
        return RequestFormat(
            "The body can't be read: it is not what Content-Encoding or Transfer-Encoding say."
        )


def _revalidated(request: web.BaseRequest, body: bytes) -> Response:
    """Answer 304 to a caller that has this very answer already (RFC 9110, section 13.1.2)."""
    etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if "If-None-Match" in request.headers and _matches(
        ", ".join(request.headers.getall("If-None-Match")), etag
    ):
        return Response(None, status=304, headers=headers)
    return json_answer(body, headers=headers)


def _matches(if_none_match: str, etag: str) -> bool:
    return if_none_match in {etag, "*"} or any(
        candidate.strip().removeprefix("W/") == etag for candidate in if_none_match.split(",")
    )
