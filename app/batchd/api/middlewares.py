"""The middlewares, outermost first: request id, errors, limits."""

import time
from http import HTTPStatus

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.typedefs import Handler

from batchd.api import request_metrics
from batchd.api.context import CONTEXT
from batchd.api.request_trailers import end_connection_after_trailer
from batchd.api.responses import response
from batchd.api.routes import route_name
from batchd.domain.errors import RequestFormat
from batchd.observability import logs
from batchd.operations.responses import REQUEST_ID_HEADER

UNLIMITED = frozenset({"healthz"})
"""Routes that are served even at the concurrency limit."""


@web.middleware
async def request_id(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id, which its response and its log records carry, and count it."""
    trace = logs.new_trace()
    started = time.perf_counter()
    try:
        response = await handler(request)
    except web.HTTPException as redirect:  # the only one that `errors` lets through
        end_connection_after_trailer(request, redirect)
        raise
    end_connection_after_trailer(request, response)
    response.headers[REQUEST_ID_HEADER] = trace
    operation = route_name(request)
    request_metrics.record(operation, response.status, time.perf_counter() - started)
    return response


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Present every failure, including those of the router, in the contract's form."""
    try:
        if request.version > HttpVersion11:
            raise RequestFormat("Only HTTP/1.0 and HTTP/1.1 are supported.")
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        if request.method == hdrs.METH_OPTIONS:
            allow = ", ".join(sorted({*error.allowed_methods, hdrs.METH_OPTIONS}))
            return response(None, content_type=None, status=204, headers={"Allow": allow})
        return request.app[CONTEXT].errors.respond(error, request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:  # a redirect of some other middleware
            raise
        return request.app[CONTEXT].errors.respond(error, request)
    except Exception as error:  # noqa: BLE001  # the last resort: no failure has another form
        return request.app[CONTEXT].errors.respond(error, request)


@web.middleware
async def limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests beyond what the process can serve at once."""
    if route_name(request) in UNLIMITED:
        return await handler(request)
    with request.app[CONTEXT].concurrency:
        return await handler(request)


MIDDLEWARES = (request_id, errors, limits)
