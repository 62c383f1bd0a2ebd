"""The server below the application: what goes wrong before a request exists is JSON as well.

aiohttp answers malformed HTTP in plain text, outside of all middlewares. Some seams used here are
not public; tests/api/test_malformed_requests.py holds them against the version in use.
"""

from http import HTTPStatus
from typing import Any

from aiohttp import web

from batchd import logs
from batchd.api import failures
from batchd.domain.errors import RequestFormat


class _Protocol(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Present malformed HTTP like any other failure; the connection is closed after it."""
        error = exc if isinstance(exc, Exception) else RuntimeError(message)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            error = RequestFormat("This is not a well-formed HTTP request, or no known method.")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: it can only be broken off") from exc
        response = failures.answer(
            error, logs.new_trace(), method=request.method, path=request.path
        )
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what broke the connection, unless it was a damaged body: that has been answered."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An AppRunner whose server presents every failure in the one form."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return _Server(
            failures.presented(server.request_handler),
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            loop=server._loop,  # noqa: SLF001
            **server._kwargs,  # noqa: SLF001
        )
