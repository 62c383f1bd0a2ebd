"""The result lines of one chunk, which its lines produce in any order."""

from collections.abc import Iterator

_BLOCK_BYTES = 256 * 1024


class ResultStore:
    """By the line's index in the chunk."""

    def __init__(self) -> None:
        self._results: dict[int, bytes] = {}
        self.size = 0
        """Bytes."""

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, line_index: int) -> bool:
        return line_index in self._results

    def add(self, line_index: int, result_line: bytes) -> None:
        """Keep the result of a line that has none yet."""
        self._results[line_index] = result_line
        self.size += len(result_line)

    def blocks(self) -> Iterator[bytes]:
        """Yield the result lines in the order of their lines, joined into larger blocks."""
        block = bytearray()
        for line_index in sorted(self._results):
            block += self._results[line_index]
            if len(block) >= _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
        yield bytes(block)
