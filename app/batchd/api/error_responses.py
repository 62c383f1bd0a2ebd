"""How failures are presented: one table from whatever went wrong to the contract's answer."""

import logging
from http import HTTPStatus

from aiohttp import web

from batchd.api.responses import Response, json_answer
from batchd.domain.errors import (
    BatchdError,
    General,
    MethodNotAllowed,
    ProcessingTimeout,
    QuotaViolation,
    RequestFormat,
    TooFast,
    Unauthorized,
)
from batchd.domain.operations import error_answer

logger = logging.getLogger(__name__)

_DEFECT = (
    "The request could not be answered because of a defect of the service. "
    "Tell its operator the trace."
)


def from_http(error: web.HTTPException) -> BatchdError:
    """Translate what aiohttp itself refuses."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return QuotaViolation("The request is too large.")
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return RequestFormat(f"The request could not be understood: {error.reason}.")
    return General(_DEFECT)


def answer(error: Exception, trace: str, *, method: str, path: str) -> Response:
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
    headers = {}
    if isinstance(shown, TooFast | ProcessingTimeout):
        headers["Retry-After"] = str(shown.retry_after_s)
    if isinstance(shown, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(shown, MethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(shown.allowed))
    made = json_answer(error_answer(shown, trace).body, status=shown.status, headers=headers)
    made.trace = trace
    return made
