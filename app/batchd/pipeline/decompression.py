"""The decompression of batch files: gzip is recognized, and decompressed while streaming."""

import zlib
from collections.abc import AsyncIterator

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_PIECE_BYTES = 256 * 1024
_GZIP_WBITS = 31


class CorruptGzip(Exception):
    """The gzip data is damaged or truncated."""


async def decompress(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Decompress gzip of one or several members, in pieces of at most 256 KiB.

    Raises CorruptGzip, after yielding the data that precedes the damage.
    """
    decompressor = zlib.decompressobj(_GZIP_WBITS)
    inside_member = False
    async for piece in pieces:
        # Zero padding after a member is common, and gzip(1) accepts it.
        rest = piece if inside_member else piece.lstrip(b"\0")
        while rest:
            try:
                plain = decompressor.decompress(rest, _MAX_PIECE_BYTES)
            except zlib.error as error:
                raise CorruptGzip(str(error)) from error
            inside_member = True
            if plain:
                yield plain
            if decompressor.eof:
                rest = decompressor.unused_data.lstrip(b"\0")
                decompressor, inside_member = zlib.decompressobj(_GZIP_WBITS), False
            else:
                rest = decompressor.unconsumed_tail
    if inside_member:
        raise CorruptGzip("unexpected end of file")


async def detect_gzip(pieces: AsyncIterator[bytes]) -> tuple[bool, AsyncIterator[bytes]]:
    """Return whether the data is gzip, and an iterator over the same data from its start."""
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= len(_GZIP_MAGIC):
            break

    async def all_pieces() -> AsyncIterator[bytes]:
        if head:
            yield head
        async for piece in pieces:
            yield piece

    return head.startswith(_GZIP_MAGIC), all_pieces()
