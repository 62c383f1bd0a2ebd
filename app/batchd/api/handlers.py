"""From an HTTP request to an operation, and from its result to a response."""

import asyncio
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from batchd.api import expect_continue
from batchd.api.conditional_requests import revalidated
from batchd.api.context import CONTEXT, AppContext
from batchd.api.error_responses import CALLER
from batchd.api.responses import NO_STORE, json_response
from batchd.domain.errors import BatchdError, QuotaViolation, RequestFormat
from batchd.domain.operations import OperationRequest
from batchd.domain.users import Caller
from batchd.operations.parsing import encode
from batchd.operations.responses import BatchResponse
from batchd.operations.table import AnyOperation

MAX_BODY_BYTES = 64 * 1024


def handler_of(operation: AnyOperation) -> Handler:
    """Return the handler of an operation: authenticate, call the service, present its result."""

    async def handle(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        expect_continue.check(request)
        caller = await _authenticate(context, request)
        operation_request = await _operation_request(context, request, operation)
        result = await operation.call(context.services, caller, operation_request)
        body = encode(result)
        if operation.method != "GET" or (isinstance(result, BatchResponse) and result.download):
            return json_response(body, status=operation.success, headers=NO_STORE)
        return revalidated(request, body)

    return handle


async def _authenticate(context: AppContext, request: web.Request) -> Caller:
    caller = await context.services.authenticator.authenticate(_secret(request))
    request[CALLER] = caller
    context.rate_limit.take(caller.user)
    return caller


def _secret(request: web.Request) -> str | None:
    """Return the secret, sent as it is or as a bearer token (RFC 6750; the scheme in any case)."""
    headers = request.headers.getall("Authorization", ())
    if len(headers) != 1:  # of two, a proxy may have judged the other one
        return None
    header = headers[0].strip(" \t")
    scheme, _, token = header.partition(" ")
    return token.strip(" \t") if scheme.lower() == "bearer" else header or None


async def _operation_request(
    context: AppContext, request: web.Request, operation: AnyOperation
) -> OperationRequest:
    """Collect the parts of the request, unparsed: the service checks the permission first."""
    key = request.headers.get("Idempotency-Key") if operation.takes_idempotency_key else None
    return OperationRequest(
        path=request.match_info,
        query=_query(request),
        body=await _body(context, request) if operation.body_schema is not None else None,
        idempotency_key=key,
    )


def _query(request: web.Request) -> Mapping[str, object]:
    """Return the query parameters; one that is given more than once becomes a tuple."""
    if not request.query_string:
        return {}
    query = request.query
    return {
        name: values[0] if len(values) == 1 else tuple(values)
        for name in query
        for values in [query.getall(name)]
    }


async def _body(context: AppContext, request: web.Request) -> bytes | BatchdError:
    """Return the body, or why it was not accepted."""
    too_large = QuotaViolation(f"The body is larger than {MAX_BODY_BYTES // 1024} kB.")
    if (request.content_length or 0) > MAX_BODY_BYTES:
        return too_large
    await expect_continue.request_body(request)
    try:
        # A body that arrives slowly must not cause the refusal of other requests.
        with context.concurrency.suspended():
            async with asyncio.timeout(context.body_timeout_s):
                return await request.read()
    except TimeoutError:
        return RequestFormat(f"The body did not arrive within {context.body_timeout_s:g} s.")
    except web.HTTPRequestEntityTooLarge:
        return too_large
    except web.RequestPayloadError:
        return RequestFormat(
            "The body can't be read: it is not what Content-Encoding or Transfer-Encoding say."
        )
