"""Raw HTTP: requests that no client library would send, and raw responses."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from multidict import CIMultiDict

from tests.support.callers import Reply
from tests.support.polling import TIMEOUT_S


class RawConnection:
    """One connection to the API."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes, *, within_s: float = TIMEOUT_S) -> None:
        self._writer.write(data)
        async with asyncio.timeout(within_s):
            await self._writer.drain()

    def stop_reading(self) -> None:
        """Leave what comes in the buffers of the operating system."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def read_head(self) -> str:
        """Read a response up to its body, the empty line included."""
        async with asyncio.timeout(TIMEOUT_S):
            return (await self._reader.readuntil(b"\r\n\r\n")).decode("ascii")

    async def read_exactly(self, size: int) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._reader.readexactly(size)

    async def read_reply(self) -> Reply:
        """Read one response, which must have a Content-Length if it has a body."""
        async with asyncio.timeout(TIMEOUT_S):
            head = await self.read_head()
            first, *lines = head.strip().split("\r\n")
            headers = CIMultiDict[str]()
            for line in lines:
                name, _, value = line.partition(": ")
                headers.add(name, value)
            body = await self._reader.readexactly(int(headers.get("Content-Length", 0)))
        return Reply(int(first.split()[1]), json.loads(body) if body else None, headers)

    async def is_closed(self) -> bool:
        """Wait for the peer to close; False if it sends something instead."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                return await self._reader.read(1) == b""
            except ConnectionResetError:  # closed before it had read all
                return True

    async def read_some(self, *, within_s: float) -> bytes:
        """Return what arrives within the time; nothing if nothing does."""
        try:
            async with asyncio.timeout(within_s):
                return await self._reader.read(2**16)
        except TimeoutError:
            return b""

    async def read_to_end(self) -> bytes:
        """Read until the peer closes or resets the connection."""
        data = bytearray()
        async with asyncio.timeout(TIMEOUT_S):
            try:
                while piece := await self._reader.read(2**16):
                    data += piece
            except ConnectionResetError:
                pass
        return bytes(data)

    async def end_sending(self) -> None:
        """Close this side only, as `nc -N` does: a response can still be read."""
        self._writer.write_eof()
        await self._writer.drain()

    def break_off(self) -> None:
        """Disconnect by a reset, like a client whose machine was switched off."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw_connection(
    url: str, *, receive_buffer: int | None = None
) -> AsyncIterator[RawConnection]:
    """Connect; a small receive buffer (bytes) makes the peer wait for this side to read."""
    parts = urlsplit(url)
    client = socket.socket()
    client.setblocking(False)
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(client, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(sock=client)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()


def request(first: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """Return a request, its lines ended and one Host header added."""
    lines = [first, b"Host: localhost", *headers, b"", body]
    return b"\r\n".join(lines)
