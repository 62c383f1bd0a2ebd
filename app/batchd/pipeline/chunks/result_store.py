"""The result lines of one chunk, which its lines produce in any order."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from types import TracebackType
from typing import NamedTuple, Self

from batchd.services.memory_budget import ProcessMemoryBudget

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 256 * 1024


class _Spilled(NamedTuple):
    """The position of a result line in the temporary file."""

    offset: int
    size: int


class ResultStore:
    """Stores result lines by the line's index in the chunk.

    In memory while the budget lasts, then in a temporary file. A context manager, which discards
    them on exit.
    """

    def __init__(self, memory: ProcessMemoryBudget) -> None:
        self._memory = memory
        self._results: dict[int, bytes | _Spilled] = {}
        self._reserved = 0
        self._file: int | None = None
        self._file_size = 0
        self._resources = ExitStack()
        self.size = 0
        """Bytes."""
        self.overflowing = False
        """Whether results in memory exceed the budget because the disk is full."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._results.clear()
        self._memory.release(self._reserved)
        self._reserved = 0
        self._resources.close()

    def __len__(self) -> int:
        return len(self._results)

    def __contains__(self, line_index: int) -> bool:
        return line_index in self._results

    def add(self, line_index: int, result_line: bytes) -> None:
        """Store the result of a line that has none yet, in memory if there is no other way."""
        self._results[line_index] = self._store(result_line)
        self.size += len(result_line)

    def _store(self, result_line: bytes) -> bytes | _Spilled:
        if self._memory.try_reserve(len(result_line)):
            self._reserved += len(result_line)
            return result_line
        try:
            return self._spill(result_line)
        except OSError as error:
            if not self.overflowing:
                logger.error("results can't be stored on disk: %s", error)  # noqa: TRY400
            self.overflowing = True
            self._memory.reserve(len(result_line))
            self._reserved += len(result_line)
            return result_line

    def _spill(self, result_line: bytes) -> _Spilled:
        if self._file is None:
            temporary_file = TemporaryFile(prefix="batchd-", buffering=0)  # noqa: SIM115  # closed with the store
            file = self._resources.enter_context(temporary_file)
            self._file = file.fileno()
        spilled = _Spilled(self._file_size, len(result_line))
        written = 0
        # Line by line: if a buffer could not be written, all of its lines would be lost.
        while written < len(result_line):
            rest = memoryview(result_line)[written:]
            written += os.pwrite(self._file, rest, spilled.offset + written)
        self._file_size += spilled.size
        return spilled

    def _load(self, result: bytes | _Spilled) -> bytes:
        if isinstance(result, bytes):
            return result
        if self._file is None:
            raise ValueError("a result line is in a file that does not exist")
        return os.pread(self._file, result.size, result.offset)

    def blocks(self) -> Iterator[bytes]:
        """Yield the result lines in the order of their lines, small ones joined into blocks."""
        block = bytearray()
        for line_index in sorted(self._results):
            result_line = self._load(self._results[line_index])
            if len(block) + len(result_line) > _BLOCK_BYTES:
                yield bytes(block)
                block.clear()
            if len(result_line) > _BLOCK_BYTES:
                yield result_line
            else:
                block += result_line
        yield bytes(block)
