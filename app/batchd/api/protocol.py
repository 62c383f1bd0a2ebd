"""The connections: their deadlines and their number, and the response to malformed HTTP."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from aiohttp import http_exceptions, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from batchd.api import expect_continue
from batchd.api.error_responses import ErrorResponses, method_not_allowed, no_such_path
from batchd.domain.errors import BatchdError, HeadTooLarge, ProcessingTimeout, RequestFormat
from batchd.observability import logs, metrics
from batchd.operations.responses import REQUEST_ID_HEADER

HALF_CLOSED_S = 1.5
"""How long a client that has closed its side may wait for its response. One that has left looks the
same, so its request is cancelled after that."""
_PIPELINED_S = 0.1
"""Pipelined requests follow each other within this time."""
_MAX_FIRST_LINE = 8192
_REQUEST_LINE = re.compile(
    rb"(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]+) (?P<path>/[^ ?#]*)[^ ]* HTTP/1\.[01]\r?\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    header_timeout_s: float
    keepalive_timeout_s: float
    max_connections: int


class Protocol(web.RequestHandler):
    """One connection.

    Adds deadlines to aiohttp's protocol: for the head of a request, for a client to read its
    response, and for one that has closed its side. The one for an idle connection is aiohttp's. At
    most one of them is pending at any time.
    """

    def __init__(self, server: "Server", *, loop: asyncio.AbstractEventLoop) -> None:
        # No access log: the metrics count requests, and failures are logged.
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=server.limits.keepalive_timeout_s,
        )
        self._server = server
        self._deadline: asyncio.TimerHandle | None = None
        self._request: web.BaseRequest | None = None
        """The request that is being handled."""
        self._head = b""
        """The beginning of the head that is being received."""
        self._body: StreamReader | None = None
        """The body of the latest request; it may still be arriving after the response."""
        self._half_closed = False
        self._is_sending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._server.is_full:
            self._end(
                "too_many", "connection", ProcessingTimeout("There are too many connections.")
            )
        else:
            self._set_deadline(self._server.limits.header_timeout_s, self._end_head)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._request is None and data and (self._body is None or self._body.is_eof()):
            if not self._head:
                self._set_deadline(self._server.limits.header_timeout_s, self._end_head)
            if len(self._head) < _MAX_FIRST_LINE:
                self._head += data[:_MAX_FIRST_LINE]
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # what asyncio declares
        """Keep the connection open for a response that the client may still wait for."""
        self._half_closed = True
        if self._request is None:
            if not self._head:
                return False
            # It is complete and about to be handled, or it will never be completed.
            self._set_deadline(_PIPELINED_S, self.force_close)
            return True
        if not self._request.content.is_eof():
            self._request.content.set_exception(web.RequestPayloadError("the body is incomplete"))
        if not self._is_sending:  # that has its own deadline
            self._set_deadline(HALF_CLOSED_S, self._abort)
        return True

    def begin(self, request: web.BaseRequest) -> None:
        """Record that the head is complete, and the request is being handled."""
        self._request, self._body = request, request.content
        if self._half_closed:
            self._set_deadline(HALF_CLOSED_S, self._abort)
        else:
            self._clear_deadline()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the response, and drop a client that does not read it in time."""
        self._is_sending = True
        self._set_deadline(self._server.limits.keepalive_timeout_s, self._abort)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._request, self._head, self._is_sending = None, b"", False
            if self._half_closed:
                self._set_deadline(_PIPELINED_S, self.force_close)
            else:
                self._clear_deadline()

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
            error = self._explain(error)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun: the connection must be closed") from exc
        response = self._server.errors.respond(error, request)
        response.headers[REQUEST_ID_HEADER] = trace
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what broke the connection, unless it was a malformed body: that got a response."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def _explain(self, error: Exception) -> BatchdError:
        """Return the error for a head that the parser does not accept."""
        match error:
            case http_exceptions.ContentEncodingError():
                return RequestFormat("Of Content-Encoding, only gzip and deflate are supported.")
            case http_exceptions.LineTooLong():
                return HeadTooLarge("The request line or a header is too long: 8 kB are accepted.")
            case http_exceptions.BadHttpMessage() if "Too many headers" in error.message:
                return HeadTooLarge(f"There are more than {self.max_headers} headers.")
            case http_exceptions.BadHttpMethod() if line := _REQUEST_LINE.match(self._head):
                # The parser accepts a fixed list of methods, and stops at any other.
                allowed = self._server.allowed_methods(line["path"].decode("latin-1"))
                if not allowed:
                    return no_such_path()
                method = line["method"].decode("ascii")
                # Otherwise the bytes after the request do not begin with a method.
                if method not in allowed:
                    return method_not_allowed(method, allowed)
        return RequestFormat("This is not a well-formed HTTP request.")

    def _end_head(self) -> None:
        if not self._head:
            self._end("silent")
            return
        timeout_s = self._server.limits.header_timeout_s
        error = RequestFormat(f"The head of the request did not arrive within {timeout_s:g} s.")
        self._end("head_timeout", "incomplete head", error)

    def _end(self, reason: str, subject: str = "", error: BatchdError | None = None) -> None:
        """Close a connection on which no request is being handled."""
        metrics.CONNECTIONS_CLOSED.labels(reason).inc()
        if error is not None and self.transport is not None:
            transport = cast(asyncio.WriteTransport, self.transport)
            transport.write(self._server.errors.refuse(error, subject))
        self.force_close()

    def _abort(self) -> None:
        """Drop the connection and all unsent data; the request is cancelled."""
        metrics.CONNECTIONS_CLOSED.labels("not_read" if self._is_sending else "gone").inc()
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()

    def _set_deadline(self, seconds: float, callback: Callable[[], None]) -> None:
        self._clear_deadline()
        self._deadline = self._server.loop.call_later(seconds, callback)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(web.Server):
    """Creates a `Protocol` for each connection, and counts them."""

    def __init__(
        self,
        server: web.Server,
        *,
        limits: ConnectionLimits,
        errors: ErrorResponses,
        allowed_methods: Callable[[str], frozenset[str]],
    ) -> None:
        """Take over the handler and the request factory of an application's own server."""
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.errors = errors
        self.allowed_methods = allowed_methods
        self._open = 0
        self._make = server.request_factory
        super().__init__(
            server.request_handler,
            request_factory=self._begin_request,
            handler_cancellation=True,
        )

    @property
    def is_full(self) -> bool:
        """Whether there are more connections than the limit."""
        return self._open > self.limits.max_connections

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._open += 1
        metrics.CONNECTIONS.inc()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self._open -= 1
        metrics.CONNECTIONS.dec()

    def __call__(self) -> Protocol:
        return Protocol(self, loop=self.loop)

    def _begin_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        message, expectation = expect_continue.take(message)
        request = self._make(message, payload, protocol, writer, task)
        if expectation is not None:
            request[expect_continue.EXPECTATION] = expectation
        if isinstance(protocol, Protocol):
            protocol.begin(request)
        return request
