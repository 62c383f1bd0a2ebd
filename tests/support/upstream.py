"""An upstream API: a real server over a socket, whose responses a test defines."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web
from aiohttp.test_utils import TestServer

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Reply: TypeAlias = web.Response | Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request as received: nothing decoded."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Upstream:
    """Records requests; responds with `replies`, repeating the last one."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[ReceivedRequest] = []
        self.replies: list[Callable[[], Reply]] = [lambda: web.json_response({"ok": True})]
        self.in_progress = 0
        self.max_in_progress = 0

    def reply(self, *replies: Callable[[], Reply]) -> None:
        self.replies = list(replies)

    def statuses(self, statuses: Iterable[int], **headers: str) -> None:
        """Respond with these statuses, one after the other, and with these headers."""

        def replying(status: int) -> Callable[[], Reply]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return lambda: web.json_response({"status": status}, status=status, headers=named)

        self.replies = [replying(status) for status in statuses]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.in_progress += 1
        self.max_in_progress = max(self.max_in_progress, self.in_progress)
        try:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.requests.append(
                ReceivedRequest(
                    method=request.method,
                    target=request.raw_path,
                    headers=headers,
                    body=await request.read(),
                )
            )
            reply = (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0])()
            return reply if isinstance(reply, web.Response) else await reply(request)
        finally:
            self.in_progress -= 1


def bytes_of(
    body: bytes, content_type: str = "application/json", **headers: str
) -> Callable[[], Reply]:
    """Return a response of these bytes."""
    return lambda: web.Response(body=body, headers={"Content-Type": content_type, **headers})


async def broken_off(request: web.Request) -> web.StreamResponse:
    """Close the connection in the middle of the response."""
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


async def hanging(_: web.Request) -> web.StreamResponse:
    """Never respond."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@asynccontextmanager
async def running_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", r"/{tail:[\s\S]*}", upstream.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    upstream.url = str(server.make_url("")).rstrip("/")
    try:
        yield upstream
    finally:
        await server.close()


@asynccontextmanager
async def answering_bytes(data: bytes) -> AsyncIterator[str]:
    """Yield the URL of a server that responds with these bytes, whether they are HTTP or not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
