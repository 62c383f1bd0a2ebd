"""An answer on its way out: its head and its body are one write."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

TRACE_HEADER = "X-Request-Id"
JSON = "application/json; charset=utf-8"


class Response(web.StreamResponse):
    """In the place of `web.Response`, whose making of a head takes a third of a request.

    What the other can do besides (cookies, compression, chunks, hooks) no answer here needs.
    """

    def __init__(
        self, content: bytes | None, *, status: int = 200, headers: Mapping[str, str]
    ) -> None:
        """None as content: its length is not told either, as in a 304."""
        super().__init__(status=status)
        self.trace = ""
        self._content = content
        self._lines = headers
        self._stays: bool | None = None

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open; None before it is known."""
        return self._stays

    def force_close(self) -> None:
        self._stays = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write it all: for `write_eof`, which aiohttp calls next, nothing is left."""
        if self._stays is None:
            self._stays = request.keep_alive
        content = b"" if request.method == "HEAD" else self._content or b""
        await request.writer.write_eof(self._head(request) + content)
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        pass

    def _head(self, request: web.BaseRequest) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in self._lines.items()])
        if self._content is not None:
            lines += f"Content-Length: {len(self._content)}\r\n"
        # One that we do not speak is answered in the one that we do (RFC 9110, section 2.5).
        version = "1.0" if request.version < HttpVersion11 else "1.1"
        if self._stays != (version == "1.1"):  # each version has a custom of its own
            lines += f"Connection: {'keep-alive' if self._stays else 'close'}\r\n"
        return (
            f"HTTP/{version} {self.status} {self.reason}\r\n{lines}"
            f"{TRACE_HEADER}: {self.trace}\r\nServer: batchd\r\n"
            f"Date: {_http_date(int(time.time()))}\r\n\r\n"
        ).encode()


@lru_cache(maxsize=1)
def _http_date(second: int) -> str:
    return formatdate(second, usegmt=True)


def json_answer(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(body, status=status, headers={"Content-Type": JSON, **(headers or {})})
