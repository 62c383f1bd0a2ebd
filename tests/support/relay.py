"""A relay between batchd and a server it needs, which can fail as networks do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
_PIECE = 64 * 1024


class Relay:
    """Carries everything to the server of a URL, until it is told not to."""

    def __init__(self, url: str) -> None:
        self._server_url = urlsplit(url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._carrying = asyncio.Event()
        self._carrying.set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The same URL by way of this relay."""
        parts = self._server_url
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{HOST}:{self._port}"))

    async def mend(self) -> None:
        """Take connections, always on the same port."""
        self._server = await asyncio.start_server(self._accept, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break all connections off, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def silence(self) -> None:
        """Keep the connections and take new ones, but carry nothing."""
        self._carrying.clear()

    async def _accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(near, back)
        finally:
            back.transport.abort()
            self._connections.discard(task)

    async def _carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection(self._server_url.hostname, self._server_url.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(near, forth))
                group.create_task(self._pump(far, back))
        except* OSError:
            pass
        finally:
            forth.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(_PIECE):
            await self._carrying.wait()
            target.write(piece)
            await target.drain()
        target.close()


@asynccontextmanager
async def relay_to(url: str) -> AsyncIterator[Relay]:
    relay = Relay(url)
    await relay.mend()
    try:
        yield relay
    finally:
        await relay.cut()
