"""The lines of a batch file: split and limited in size while streaming."""

from collections.abc import AsyncIterator

import msgspec

from batchd.pipeline.event_loop_yield import EventLoopYield

BOM = b"\xef\xbb\xbf"
"""The byte order mark that some programs write at the start of a UTF-8 file."""
_MAX_SPLIT_BYTES = 16 * 1024
"""Bytes that are split at a time."""


class RawLine(msgspec.Struct, frozen=True, gc=False):
    """A struct, not a dataclass: there are millions, and creating one takes a third of the time."""

    number: int
    """From 1, blank lines included."""
    start: int
    """Byte offset in the file."""
    size: int
    """Bytes, line break included."""
    data: bytes | None
    """Content without the line break; None if it exceeds the limit."""

    @property
    def blank(self) -> bool:
        if self.data is None:
            return False
        content = self.data.removeprefix(BOM) if self.number == 1 else self.data
        return not content.strip()


class LineSplitter:
    """Splits data into lines at LF, buffering at most one line of the maximum length.

    Blank lines are counted and left out: a few bytes of gzip decompress to millions of them.
    """

    def __init__(self, *, max_line_bytes: int, first_line: int = 1, start: int = 0) -> None:
        self._max_line_bytes = max_line_bytes
        self._number = first_line
        self._start = start
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        """Length of the incomplete line, also when it is too long to be buffered."""

    @property
    def next_number(self) -> int:
        """The number of the line after those that have ended, blank ones included."""
        return self._number

    def feed(self, piece: bytes) -> list[RawLine]:
        """Return the lines that end in this piece, without the blank ones."""
        if self._is_blank(piece):
            lines_end = piece.rfind(b"\n") + 1
            self._number += piece.count(b"\n")
            self._start += lines_end
            self._append_to_buffer(piece[lines_end:])
            return []
        *line_ends, rest = piece.split(b"\n")
        lines = [self._complete_line(line_end, line_break=1) for line_end in line_ends]
        self._append_to_buffer(rest)
        return [line for line in lines if not line.blank]

    def finish(self) -> list[RawLine]:
        """Return the last line, unless a line break ended it or it is blank."""
        if not self._buffered_bytes:
            return []
        line = self._complete_line(b"", line_break=0)
        return [] if line.blank else [line]

    def _is_blank(self, piece: bytes) -> bool:
        """Return whether the piece is nothing but blank lines, the last perhaps incomplete."""
        return not self._buffered_bytes and len(piece) <= self._max_line_bytes and piece.isspace()

    def _append_to_buffer(self, data: bytes) -> None:
        if not data:
            return
        self._buffered_bytes += len(data)
        if self._buffered_bytes <= self._max_line_bytes:
            self._buffer.append(data)
        else:
            self._buffer.clear()

    def _complete_line(self, line_end: bytes, *, line_break: int) -> RawLine:
        length = self._buffered_bytes + len(line_end)
        data = None
        if length <= self._max_line_bytes:
            data = b"".join((*self._buffer, line_end)) if self._buffer else line_end
        line = RawLine(self._number, self._start, length + line_break, data)
        self._number += 1
        self._start += line.size
        self._buffer.clear()
        self._buffered_bytes = 0
        return line


async def split_lines(
    pieces: AsyncIterator[bytes], splitter: LineSplitter
) -> AsyncIterator[list[RawLine]]:
    """Yield the lines in lists, which may be empty, and let other tasks run in between."""
    yield_control = EventLoopYield()
    async for piece in pieces:
        # A piece may consist of line breaks.
        for start in range(0, len(piece), _MAX_SPLIT_BYTES):
            yield splitter.feed(piece[start : start + _MAX_SPLIT_BYTES])
            await yield_control()
    yield splitter.finish()
