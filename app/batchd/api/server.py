"""The server: every request goes in here, and every answer out, the failures among them.

aiohttp answers malformed HTTP in plain text. Some seams used here are not public;
tests/api/test_malformed_requests.py holds them against the version in use.
"""

import asyncio
import time
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web

from batchd.api import error_responses, expect_continue, request_metrics
from batchd.api.context import AppContext
from batchd.api.handlers import MAX_BODY
from batchd.api.responses import Response
from batchd.api.routing import find
from batchd.domain.errors import RequestFormat
from batchd.observability import logs


class Server(web.Server):
    """Below `web.Application`, which would do for each request what this API has no use for."""

    def __init__(self, state: AppContext) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            self._answer,
            request_factory=partial(web.BaseRequest, loop=loop, client_max_size=MAX_BODY),
            handler_cancellation=True,
        )
        self._state = state

    def __call__(self) -> web.RequestHandler:
        # No access log: the metrics count, and failures are logged.
        return _Protocol(self, loop=asyncio.get_running_loop(), access_log=None)  # type: ignore[arg-type]

    async def _answer(self, request: web.BaseRequest) -> Response:
        """Give every answer its trace, and every failure its form."""
        trace = logs.new_trace()
        began = time.perf_counter()
        operation = ""
        try:
            route, parameters = find(request.method, request.rel_url.path_safe)
            operation = route.name
            expect_continue.check(request)
            answer = await route.handler(self._state, request, parameters)
        except Exception as error:  # noqa: BLE001  # the last resort: nothing leaves in another form
            answer = error_responses.answer(error, trace, method=request.method, path=request.path)
        else:
            answer.trace = trace
        request_metrics.record(operation, answer.status, time.perf_counter() - began)
        return answer


class _Protocol(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Response:
        """Present malformed HTTP like any other failure; the connection is closed after it."""
        error = exc if isinstance(exc, Exception) else RuntimeError(message)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            error = RequestFormat("This is not a well-formed HTTP request, or no known method.")
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: it can only be broken off") from exc
        answer = error_responses.answer(
            error, logs.new_trace(), method=request.method, path=request.path
        )
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what broke the connection, unless it was a damaged body: that has been answered."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)
