"""How failures are presented: one table from whatever went wrong to the contract's answer."""

import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from batchd import logs
from batchd.api import meter
from batchd.domain.errors import (
    BatchdError,
    General,
    MethodNotAllowed,
    NotFound,
    ProcessingTimeout,
    QuotaViolation,
    RequestFormat,
    TooFast,
    Unauthorized,
)
from batchd.domain.operations import error_answer

logger = logging.getLogger(__name__)

TRACE_HEADER = "X-Request-Id"
_DEFECT = (
    "The request could not be answered because of a defect of the service. "
    "Tell its operator the trace."
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def from_http(error: web.HTTPException) -> BatchdError:
    """Translate what the router and aiohttp itself refuse."""
    if isinstance(error, web.HTTPNotFound):
        return NotFound("There is no such path.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = frozenset(error.allowed_methods)
        return MethodNotAllowed(
            f"This path does not take {error.method}, but {', '.join(sorted(allowed))}.",
            allowed=allowed,
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return QuotaViolation("The request is too large.")
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return RequestFormat(f"The request could not be understood: {error.reason}.")
    return General(_DEFECT)


def answer(error: Exception, trace: str, *, method: str, path: str) -> web.Response:
    """Log the failure under its trace and present it."""
    if isinstance(error, web.HTTPException):
        error = from_http(error)
    shown = error if isinstance(error, BatchdError) else General(_DEFECT)
    logger.log(
        logging.ERROR if shown.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO,
        "%s %s: %s",
        method,
        path,
        shown.name,
        extra={"trace": trace, "status": shown.status, "subcode": shown.subcode},
        exc_info=error if shown is not error else None,
    )
    headers = {TRACE_HEADER: trace, "Server": "batchd"}
    if isinstance(shown, TooFast | ProcessingTimeout):
        headers["Retry-After"] = str(shown.retry_after_s)
    if isinstance(shown, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(shown, MethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(shown.allowed))
    return web.Response(
        status=shown.status,
        body=error_answer(shown, trace).body,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )


def presented(handle: Handle) -> Handle:
    """Give every answer its trace, and every failure its form.

    Around the whole application, so that what the router and aiohttp itself refuse is presented by
    the same lines; a middleware would be called for less, and cost more.
    """

    async def present(request: web.BaseRequest) -> web.StreamResponse:
        trace = logs.new_trace()
        began = time.perf_counter()
        try:
            response = await handle(request)
        except Exception as error:  # noqa: BLE001  # the last resort: nothing leaves in another form
            response = answer(error, trace, method=request.method, path=request.path)
        else:
            response.headers[TRACE_HEADER] = trace
            response.headers["Server"] = "batchd"
        meter.record(request, response.status, time.perf_counter() - began)
        return response

    return present
