"""The planner that divides the lines of a batch into chunks."""

from collections.abc import Iterator
from dataclasses import replace

from batchd.domain.chunks import Chunk
from batchd.pipeline.line_reader import RawLine


class ChunkPlanner:
    """Groups lines in file order into chunks, each as large as both limits allow.

    A file that would have more than `max_chunks` of them gets larger ones.
    """

    def __init__(self, *, max_lines: int, max_bytes: int, max_chunks: int) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._max_chunks = max_chunks
        self._chunks: list[Chunk] = []
        self._first: RawLine | None = None
        self._last: RawLine | None = None
        self._lines_in_chunk = 0
        self.lines = 0
        """Lines in all chunks."""

    def add(self, line: RawLine) -> None:
        """Add a line that will run; blank lines, which are not added, may lie in between."""
        if self._first is not None and (
            self._lines_in_chunk >= self._max_lines
            or line.start + line.size - self._first.start > self._max_bytes
        ):
            self._close_chunk()
        self._first = self._first or line
        self._last = line
        self._lines_in_chunk += 1
        self.lines += 1

    def finish(self) -> list[Chunk]:
        """Return all chunks; call it once, after the last line."""
        self._close_chunk()
        return self._chunks

    def _close_chunk(self) -> None:
        if self._first is None or self._last is None:
            return
        self._chunks.append(
            Chunk(
                number=len(self._chunks),
                start=self._first.start,
                size=self._last.start + self._last.size - self._first.start,
                first_line=self._first.number,
                lines=self._lines_in_chunk,
            )
        )
        self._first = self._last = None
        self._lines_in_chunk = 0
        if len(self._chunks) > self._max_chunks:
            self._enlarge_chunks()

    def _enlarge_chunks(self) -> None:
        """Raise the limits, and merge the chunks so far, until there is room for more."""
        target_count = max(1, self._max_chunks * 3 // 4)
        while len(self._chunks) > target_count:
            # Lines first: workers hold the bytes of the chunks they run in memory.
            self._max_lines *= 2
            self._chunks = list(self._merged())
            if len(self._chunks) > target_count:
                self._max_bytes *= 2
                self._chunks = list(self._merged())

    def _merged(self) -> Iterator[Chunk]:
        """Yield the chunks, each merged with as many following ones as the limits allow."""
        number = 0
        merged, *remaining = self._chunks
        for chunk in remaining:
            size = chunk.start + chunk.size - merged.start
            if merged.lines + chunk.lines <= self._max_lines and size <= self._max_bytes:
                merged = replace(merged, size=size, lines=merged.lines + chunk.lines)
            else:
                yield merged
                number += 1
                merged = replace(chunk, number=number)
        yield merged
