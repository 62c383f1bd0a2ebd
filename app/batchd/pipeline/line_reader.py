"""The bytes of a batch file as lines: unpacked if compressed, split, of bounded size."""

import zlib
from collections.abc import AsyncIterator

import msgspec

BOM = b"\xef\xbb\xbf"
"""Some programs begin a UTF-8 file with it."""
_GZIP_MAGIC = b"\x1f\x8b"
_PIECE = 256 * 1024
_GZIP_WBITS = 31


class CorruptGzip(Exception):
    """The file begins like gzip but does not go on like it, or ends too early."""


async def unpack(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Decompress gzip, of one member or several, in pieces of at most 256 KiB.

    Raises CorruptGzip; what came before it has been given out.
    """
    inflate = zlib.decompressobj(_GZIP_WBITS)
    begun = False
    async for piece in pieces:
        # Padding with zeros after a member is usual (RFC 1952 tools accept it).
        rest = piece if begun else piece.lstrip(b"\0")
        while rest:
            try:
                plain = inflate.decompress(rest, _PIECE)
            except zlib.error as error:
                raise CorruptGzip(str(error)) from error
            begun = True
            if plain:
                yield plain
            if inflate.eof:
                rest = inflate.unused_data.lstrip(b"\0")
                inflate, begun = zlib.decompressobj(_GZIP_WBITS), False
            else:
                rest = inflate.unconsumed_tail
    if begun:
        raise CorruptGzip("the file ends in the middle")


async def sniff(pieces: AsyncIterator[bytes]) -> tuple[bool, AsyncIterator[bytes]]:
    """Return whether the bytes are gzip, and the same bytes again."""
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= len(_GZIP_MAGIC):
            break

    async def again() -> AsyncIterator[bytes]:
        if head:
            yield head
        async for piece in pieces:
            yield piece

    return head.startswith(_GZIP_MAGIC), again()


class RawLine(msgspec.Struct, frozen=True, gc=False):
    """A struct, not a dataclass: there are millions, and it is made in a third of the time."""

    number: int
    """From 1, blank lines counted."""
    start: int
    """Bytes before it."""
    size: int
    """Bytes, with its line break."""
    data: bytes | None
    """Without its line break; None if it is too long to be kept."""

    @property
    def blank(self) -> bool:
        if self.data is None:
            return False
        content = self.data.removeprefix(BOM) if self.number == 1 else self.data
        return not content.strip()


class Splitter:
    """Cuts bytes into lines at LF, holding no more than one line of the permitted length."""

    def __init__(self, *, max_line_bytes: int, first_line: int = 1, start: int = 0) -> None:
        self._max = max_line_bytes
        self._number = first_line
        self._start = start
        self._held: list[bytes] = []
        self._held_size = 0

    def feed(self, piece: bytes) -> list[RawLine]:
        """Return the lines that end in this piece."""
        *ended, rest = piece.split(b"\n")
        lines = [self._end(tail, line_break=1) for tail in ended]
        self._hold(rest)
        return lines

    def end(self) -> list[RawLine]:
        """Return the last line if no line break ended it."""
        return [self._end(b"", line_break=0)] if self._held_size else []

    def _hold(self, data: bytes) -> None:
        if not data:
            return
        self._held_size += len(data)
        if self._held_size <= self._max:
            self._held.append(data)
        else:
            self._held.clear()

    def _end(self, tail: bytes, *, line_break: int) -> RawLine:
        length = self._held_size + len(tail)
        data = None
        if length <= self._max:
            data = b"".join((*self._held, tail)) if self._held else tail
        line = RawLine(self._number, self._start, length + line_break, data)
        self._number += 1
        self._start += line.size
        self._held.clear()
        self._held_size = 0
        return line


async def split(pieces: AsyncIterator[bytes], splitter: Splitter) -> AsyncIterator[list[RawLine]]:
    """Give the lines of each piece together."""
    async for piece in pieces:
        yield splitter.feed(piece)
    yield splitter.end()
