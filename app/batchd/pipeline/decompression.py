"""The decompression of batch files: gzip is recognized, and decompressed while streaming."""

import zlib
from collections.abc import AsyncIterator, Iterator

GZIP_MAGIC = b"\x1f\x8b"
MAX_EMPTY_MEMBERS = 1_000
"""Members without content in a file. Each takes microseconds to decompress, and 20 bytes."""

_MAX_OUTPUT_BYTES = 256 * 1024
_MAX_INPUT_BYTES = 16 * 1024
"""At a time: zlib copies what follows a member, which may be one of thousands."""
_GZIP_WBITS = 31
_REASONS = {
    "incorrect data check": "its checksum is wrong",
    "incorrect length check": "its length is wrong",
}


class CorruptGzip(Exception):
    """The gzip data is damaged, truncated or followed by something else; the message says which."""


async def decompress(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Decompress gzip of one or several members, in pieces of at most 256 KiB.

    Pieces may be empty, so that the consumer can stop although there is no output. Raises
    CorruptGzip, after yielding the data that precedes the damage.
    """
    gzip = _GzipReader()
    async for piece in pieces:
        for start in range(0, len(piece), _MAX_INPUT_BYTES):
            for plain in gzip.feed(piece[start : start + _MAX_INPUT_BYTES]):
                yield plain
            yield b""
    gzip.finish()


class _GzipReader:
    """Decompresses pieces of a file, and tracks their position in the file."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(_GZIP_WBITS)
        self._is_inside_member = False
        self._is_member_empty = True
        self._empty_members = 0
        self._received = 0
        """Bytes of the file, up to the end of the current piece."""
        self._member_start = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        self._received += len(piece)
        # Zero padding after a member is common, and gzip(1) accepts it.
        rest = piece if self._is_inside_member else piece.lstrip(b"\0")
        while rest:
            if not self._is_inside_member:
                self._start_member(rest)
            plain = self._decompress(rest)
            if plain:
                self._is_member_empty = False
                yield plain
            if self._decompressor.eof:
                rest = self._decompressor.unused_data.lstrip(b"\0")
                self._end_member()
            else:
                rest = self._decompressor.unconsumed_tail

    def finish(self) -> None:
        if self._is_inside_member:
            raise CorruptGzip("The gzip data is damaged: the file ends in the middle of it.")

    def _start_member(self, rest: bytes) -> None:
        self._member_start = self._received - len(rest)
        self._is_inside_member = True
        if not GZIP_MAGIC.startswith(rest[: len(GZIP_MAGIC)]):
            raise self._trailing_bytes()

    def _end_member(self) -> None:
        self._empty_members += self._is_member_empty
        if self._empty_members > MAX_EMPTY_MEMBERS:
            raise CorruptGzip(f"The gzip data has more than {MAX_EMPTY_MEMBERS} empty members.")
        self._decompressor = zlib.decompressobj(_GZIP_WBITS)
        self._is_inside_member, self._is_member_empty = False, True

    def _decompress(self, rest: bytes) -> bytes:
        try:
            return self._decompressor.decompress(rest, _MAX_OUTPUT_BYTES)
        except zlib.error as error:
            reason = str(error).rpartition(": ")[2]
            if reason == "incorrect header check":  # the second byte was in the next piece
                raise self._trailing_bytes() from None
            explained = _REASONS.get(reason, f"its content is not valid ({reason})")
            raise CorruptGzip(f"The gzip data is damaged: {explained}.") from None

    def _trailing_bytes(self) -> CorruptGzip:
        position = self._member_start + 1
        return CorruptGzip(
            f"Bytes follow the end of the gzip data, from byte {position} of the file on: "
            "remove them."
        )
