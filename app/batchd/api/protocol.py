"""The connections: what is not HTTP is answered in the contract's form, too."""

from http import HTTPStatus
from typing import Any

from aiohttp import web

from batchd.api import error_responses
from batchd.domain.errors import RequestFormat
from batchd.observability import logs
from batchd.operations.responses import REQUEST_ID_HEADER


class Protocol(web.RequestHandler):
    """One connection. aiohttp answers malformed HTTP in plain text; this one does not."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Present malformed HTTP like any other failure; the connection is closed after it."""
        trace = logs.new_trace()
        error = exc if isinstance(exc, Exception) else RuntimeError(message)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            error = RequestFormat("This is not a well-formed HTTP request, or no known method.")
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun: it can only be broken off") from exc
        response = error_responses.respond(error, request)
        response.headers[REQUEST_ID_HEADER] = trace
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what broke the connection, unless it was a malformed body: that was answered."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)


class Server(web.Server):
    """Makes a `Protocol` for each connection."""

    def __init__(self, server: web.Server) -> None:
        """Take over the handler and the request factory of an application's own server."""
        super().__init__(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=True,
        )

    def __call__(self) -> Protocol:
        # No access log: the metrics count requests, and failures are logged.
        return Protocol(self, loop=self._loop, access_log=None)  # type: ignore[arg-type]
