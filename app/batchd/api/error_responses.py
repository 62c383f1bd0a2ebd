"""How failures are presented: whatever went wrong becomes an error of the contract."""

import logging
from http import HTTPStatus

from aiohttp import web

from batchd.api.responses import json_response
from batchd.domain.errors import (
    BatchdError,
    General,
    MethodNotAllowed,
    NotFound,
    QuotaViolation,
    RequestFormat,
)
from batchd.domain.operations import error_result
from batchd.observability import logs
from batchd.operations.errors import headers_of

logger = logging.getLogger(__name__)

_DEFECT = (
    "The request could not be answered because of a defect of the service. "
    "Report the trace to its operator."
)


def respond(error: Exception, request: web.BaseRequest) -> web.Response:
    """Log the failure under the trace of the request, and present it."""
    trace = logs.current_trace()
    failure = _from_http(error) if isinstance(error, web.HTTPException) else error
    presented = failure if isinstance(failure, BatchdError) else General(_DEFECT)
    logger.log(
        logging.ERROR if presented.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO,
        "%s %s: %s",
        request.method,
        request.path,
        presented.name,
        extra={"trace": trace, "status": presented.status, "subcode": presented.subcode},
        exc_info=error if presented is not failure else None,
    )
    result = error_result(presented, trace)
    return json_response(result.body, status=presented.status, headers=headers_of(presented))


def _from_http(error: web.HTTPException) -> BatchdError:
    """Translate what aiohttp itself refuses."""
    match error:
        case web.HTTPMethodNotAllowed():
            methods = frozenset(error.allowed_methods)
            return MethodNotAllowed(
                f"This path does not take {error.method}, but {', '.join(sorted(methods))}.",
                allowed=methods,
            )
        case web.HTTPNotFound():
            return NotFound("There is no such path.")
        case web.HTTPRequestEntityTooLarge():
            return QuotaViolation("The request is too large.")
        case _ if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return RequestFormat(f"The request could not be understood: {error.reason}.")
        case _:
            return General(_DEFECT)
