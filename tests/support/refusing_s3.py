"""A proxy in front of the S3 server that refuses calls with an error code of the test's choice."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

Matches = Callable[[web.Request], bool]


def writes(request: web.Request) -> bool:
    """Whether the call writes an object, or begins to."""
    return request.method in {"PUT", "POST"} and "delete" not in request.query


def multipart(request: web.Request) -> bool:
    """Whether the call completes an object of several parts."""
    return request.method == "POST" and "uploadId" in request.query


def deletes(request: web.Request) -> bool:
    return request.method == "DELETE" or "delete" in request.query


def everything(_: web.Request) -> bool:
    return True


@dataclass
class RefusingS3:
    """Forwards calls unless they match; SigV4 covers the Host header, which stays as it is."""

    endpoint: str
    session: aiohttp.ClientSession
    url: str = ""
    refused: int = 0
    _matches: Matches | None = None
    _code: str = ""
    _status: int = HTTPStatus.FORBIDDEN

    def refuse(self, matches: Matches, code: str, *, status: int = HTTPStatus.FORBIDDEN) -> None:
        """Refuse calls that match from now on."""
        self._matches, self._code, self._status = matches, code, status

    def accept(self) -> None:
        """Refuse nothing any more."""
        self._matches = None

    async def handle(self, request: web.Request) -> web.Response:
        if self._matches is not None and self._matches(request):
            self.refused += 1
            body = f"<Error><Code>{self._code}</Code><Message>no</Message></Error>"
            text = "" if request.method == "HEAD" else body
            return web.Response(status=self._status, text=text, content_type="application/xml")
        async with self.session.request(
            request.method,
            URL(f"{self.endpoint}{request.raw_path}", encoded=True),
            headers=request.headers,
            data=await request.read(),
        ) as response:
            headers = {
                name: value
                for name, value in response.headers.items()
                if name.lower() not in {"transfer-encoding", "connection"}
            }
            if request.method == "HEAD":
                return web.Response(status=response.status, headers=headers)
            headers.pop("Content-Length", None)
            return web.Response(status=response.status, headers=headers, body=await response.read())


@asynccontextmanager
async def refusing_s3(endpoint: str) -> AsyncIterator[RefusingS3]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        proxy = RefusingS3(endpoint, session)
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_route("*", r"/{tail:.*}", proxy.handle)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        proxy.url = str(server.make_url("")).rstrip("/")
        try:
            yield proxy
        finally:
            await server.close()
