"""A relay between batchd and a server, which simulates network failures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

HOST = "127.0.0.1"
_MAX_PIECE_BYTES = 64 * 1024


class Relay:
    """Forwards connections to the server of a URL, until the test interrupts it."""

    def __init__(self, url: str) -> None:
        self._server_url = urlsplit(url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The server's URL through this relay."""
        parts = self._server_url
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{HOST}:{self._port}"))

    async def mend(self) -> None:
        """Accept connections, always on the same port."""
        self._server = await asyncio.start_server(self._accept, HOST, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Close all connections, and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def silence(self) -> None:
        """Keep the connections and accept new ones, but forward nothing."""
        self._forwarding.clear()

    async def _accept(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._forward(client_reader, client_writer)
        finally:
            client_writer.transport.abort()
            self._connections.discard(task)

    async def _forward(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        server_reader, server_writer = await asyncio.open_connection(
            self._server_url.hostname, self._server_url.port
        )
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(client_reader, server_writer))
                group.create_task(self._pump(server_reader, client_writer))
        except* OSError:
            pass
        finally:
            server_writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(_MAX_PIECE_BYTES):
            await self._forwarding.wait()
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
