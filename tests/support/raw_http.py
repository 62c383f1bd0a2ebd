"""HTTP by the byte: what no client library would send, and the answer as it came."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from multidict import CIMultiDict

from tests.support.callers import Reply

PATIENCE_S = 10.0


class RawConnection:
    """One connection to the API."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read_head(self) -> str:
        """Read up to the body of an answer, the empty line included."""
        async with asyncio.timeout(PATIENCE_S):
            return (await self._reader.readuntil(b"\r\n\r\n")).decode("ascii")

    async def read_reply(self) -> Reply:
        """Read one answer, which must have a Content-Length if it has a body."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.read_head()
            first, *lines = head.strip().split("\r\n")
            headers = CIMultiDict[str]()
            for line in lines:
                name, _, value = line.partition(": ")
                headers.add(name, value)
            body = await self._reader.readexactly(int(headers.get("Content-Length", 0)))
        return Reply(int(first.split()[1]), json.loads(body) if body else None, headers)

    async def is_closed(self) -> bool:
        """Wait for the other side to close; False if it says something instead."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read(1) == b""

    async def read_to_end(self) -> bytes:
        """Read whatever comes until the other side closes or resets the connection."""
        data = bytearray()
        async with asyncio.timeout(PATIENCE_S):
            try:
                while piece := await self._reader.read(2**16):
                    data += piece
            except ConnectionResetError:
                pass
        return bytes(data)

    async def end_sending(self) -> None:
        """Close this side only, as `nc -N` does: an answer can still be read."""
        self._writer.write_eof()
        await self._writer.drain()

    def break_off(self) -> None:
        """Go away as a client does whose machine was switched off: by a reset."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw_connection(url: str) -> AsyncIterator[RawConnection]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()


def request(first: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """Return a request, its lines ended and one Host header added."""
    lines = [first, b"Host: localhost", *headers, b"", body]
    return b"\r\n".join(lines)
