"""Cuts the lines of a batch into chunks."""

from batchd.domain.chunks import Chunk
from batchd.pipeline.line_reader import RawLine


class Plan:
    """Chunks of whole lines, as many as fit both limits, in the order of the file."""

    def __init__(self, *, max_lines: int, max_bytes: int) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._chunks: list[Chunk] = []
        self._first: RawLine | None = None
        self._last: RawLine | None = None
        self._lines = 0
        self.lines = 0
        """In all chunks."""

    def add(self, line: RawLine) -> None:
        """Add a line that will run. Lines that will not may lie between them."""
        if self._first is not None and (
            self._lines >= self._max_lines
            or line.start + line.size - self._first.start > self._max_bytes
        ):
            self._close()
        self._first = self._first or line
        self._last = line
        self._lines += 1
        self.lines += 1

    def chunks(self) -> list[Chunk]:
        """Return them all; call it once, at the end."""
        self._close()
        return self._chunks

    def _close(self) -> None:
        if self._first is None or self._last is None:
            return
        self._chunks.append(
            Chunk(
                no=len(self._chunks),
                start=self._first.start,
                size=self._last.start + self._last.size - self._first.start,
                first_line=self._first.number,
                lines=self._lines,
            )
        )
        self._first = self._last = None
        self._lines = 0
