"""Presents failures: every exception becomes an error of the contract."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from batchd.api.log_limit import LogLimit
from batchd.api.responses import NO_STORE, json_response
from batchd.domain.errors import (
    BatchdError,
    General,
    MethodNotAllowed,
    NotFound,
    QuotaViolation,
    RequestFormat,
    help_url,
)
from batchd.domain.operations import OperationResult, error_result
from batchd.domain.users import Caller
from batchd.observability import logs, metrics
from batchd.operations.errors import headers_of
from batchd.operations.responses import REQUEST_ID_HEADER

logger = logging.getLogger(__name__)

CALLER = web.RequestKey("caller", Caller)
"""The key of a request's caller, once it is authenticated."""

_DEFECT = (
    "The request could not be answered because of a defect of the service. "
    "Report the trace to its operator."
)


class ErrorResponses:
    """Logs failures and presents them."""

    def __init__(self, *, log_limit: LogLimit, help_base: str | None = None) -> None:
        """`help_base` is the base of the URLs in the errors' `help`; without it they have none."""
        self._log_limit = log_limit
        self._help_base = help_base

    def respond(self, error: Exception, request: web.BaseRequest) -> web.Response:
        """Log the failure with the trace of the request, and present it."""
        failure = _from_http(error) if isinstance(error, web.HTTPException) else error
        presented = failure if isinstance(failure, BatchdError) else General(_DEFECT)
        self._log(
            presented,
            f"{request.method} {request.path}",
            authenticated=CALLER in request,
            defect=error if presented is not failure else None,
        )
        return self._response(presented, self._result(presented))

    def refuse(self, error: BatchdError, subject: str) -> bytes:
        """Return the bytes of a response that ends a connection without a request."""
        trace = logs.new_trace()
        self._log(error, subject, authenticated=False)
        result = self._result(error)
        response = self._response(error, result)
        head = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
        head += [f"{name}: {value}" for name, value in response.headers.items()]
        body = result.body
        head += [f"{REQUEST_ID_HEADER}: {trace}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, "Connection: close", "", ""]).encode("ascii") + body

    def _result(self, error: BatchdError) -> OperationResult:
        url = help_url(error, self._help_base)
        return error_result(error, logs.current_trace(), help_url=url)

    def _response(self, error: BatchdError, result: OperationResult) -> web.Response:
        headers = {**NO_STORE, **headers_of(error)}
        return json_response(result.body, status=error.status, headers=headers)

    def _log(
        self,
        error: BatchdError,
        subject: str,
        *,
        authenticated: bool,
        defect: Exception | None = None,
    ) -> None:
        extra: dict[str, object] = {
            "trace": logs.current_trace(),
            "status": error.status,
            "subcode": error.subcode,
        }
        if not authenticated:
            metrics.UNAUTHENTICATED_FAILURES.labels(error.name).inc()
            # A defect is always logged.
            if defect is None:
                if not self._log_limit.allows():
                    return
                extra |= self._omitted()
        is_ours = error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        logger.log(
            logging.ERROR if is_ours else logging.INFO,
            "%s: %s",
            subject,
            error.name,
            extra=extra,
            exc_info=defect,
        )

    def _omitted(self) -> Mapping[str, object]:
        omitted = self._log_limit.take_omitted()
        return {"omitted": omitted} if omitted else {}


def _from_http(error: web.HTTPException) -> BatchdError:
    """Translate an error that aiohttp itself raises."""
    match error:
        case web.HTTPMethodNotAllowed():
            return method_not_allowed(error.method, frozenset(error.allowed_methods))
        case web.HTTPNotFound():
            return no_such_path()
        case web.HTTPRequestEntityTooLarge():
            return QuotaViolation("The request is too large.")
        case _ if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return RequestFormat(f"The request could not be understood: {error.reason}.")
        case _:
            return General(_DEFECT)


def method_not_allowed(method: str, allowed: frozenset[str]) -> MethodNotAllowed:
    return MethodNotAllowed(
        f"This path does not take {method}, but {', '.join(sorted(allowed))}.", allowed=allowed
    )


def no_such_path() -> NotFound:
    return NotFound("There is no such path.")
