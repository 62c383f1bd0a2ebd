"""Lines without a result in the storage: identifies them, and checks whether a part is complete."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Self

from batchd.domain.batches import Batch
from batchd.domain.chunks import Chunk
from batchd.domain.ports import ObjectMissing
from batchd.domain.storage_keys import require_input_key
from batchd.pipeline.chunks.reader import parse_valid
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.failures import FailureKind
from batchd.pipeline.line_reader import LineSplitter, RawLine, split_lines

logger = logging.getLogger(__name__)

_MAX_SKIPPED_BYTES = 256 * 1024
"""Distance to the next chunk up to which reading on is cheaper than a call of the storage."""


class LineIdentifier:
    """Identifies lines by number, and by id for as long as the copy is readable.

    The rows of the chunks are enough: a batch ends although its copy is gone. Numbers computed
    from a row count blank lines, which only the copy shows.
    """

    def __init__(
        self, context: PipelineContext, batch: Batch, *, read_copy: bool, allow_failures: bool
    ) -> None:
        """Read the copy if `read_copy` is true; go on without it if it is missing.

        With `allow_failures`, go on without it after any failure but an outage.
        """
        self._context = context
        self._batch = batch
        self._read_copy = read_copy
        self._allow_failures = allow_failures
        self._reader = _CopyReader(context, batch)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._reader.close()

    async def identify(self, chunk: Chunk) -> list[tuple[int, str | None]]:
        """Return the number and the id of each line of the chunk; chunks come in file order."""
        if self._read_copy:
            try:
                return await self._identify_by_copy(chunk)
            except Exception as error:
                is_outage = await self._context.breaker.judge(error) is FailureKind.OUTAGE
                if is_outage or not (self._allow_failures or _is_missing(error)):
                    raise
                # It would fail for each of the other chunks as well.
                self._read_copy = False
                logger.warning(
                    "batch %s ends without its copy, which can't be read: %r",
                    self._batch.batch,
                    error,
                )
        return [(chunk.first_line + index, None) for index in range(chunk.lines)]

    async def _identify_by_copy(self, chunk: Chunk) -> list[tuple[int, str | None]]:
        lines = await self._reader.read(chunk)
        if len(lines) != chunk.lines:
            raise ValueError(
                f"chunk {chunk.number} of batch {self._batch.batch} has {len(lines)} lines, "
                f"but {chunk.lines} were validated"
            )
        return [(line.number, parse_valid(line).id) for line in lines]


class _CopyReader:
    """Reads chunks in file order, those that are close to each other in one call of the storage."""

    def __init__(self, context: PipelineContext, batch: Batch) -> None:
        self._context = context
        self._batch = batch
        self._open_files = AsyncExitStack()
        self._blocks: AsyncIterator[list[RawLine]] | None = None
        self._unread: list[RawLine] = []
        """Lines that have been read, but lie after the end of the last chunk."""
        self._position = 0
        """Byte offset of the end of the last chunk."""

    async def read(self, chunk: Chunk) -> list[RawLine]:
        """Return the lines of the chunk."""
        if self._blocks is None or not 0 <= chunk.start - self._position <= _MAX_SKIPPED_BYTES:
            await self._open(chunk)
        self._position = chunk.start + chunk.size
        lines: list[RawLine] = []
        while not self._take(lines, chunk) and self._blocks is not None:
            self._unread = await anext(self._blocks, [])
            if not self._unread:
                await self.close()
        return lines

    async def close(self) -> None:
        self._blocks = None
        self._unread = []
        await self._open_files.aclose()

    async def _open(self, chunk: Chunk) -> None:
        await self.close()
        pieces = await self._open_files.enter_async_context(
            self._context.storage.read(require_input_key(self._batch), offset=chunk.start)
        )
        splitter = LineSplitter(
            max_line_bytes=self._context.settings.max_line_bytes,
            first_line=chunk.first_line,
            start=chunk.start,
        )
        self._blocks = await self._open_files.enter_async_context(
            aclosing(_blocks(pieces, splitter))
        )

    def _take(self, lines: list[RawLine], chunk: Chunk) -> bool:
        """Move the chunk's lines out of the unread ones; return whether its end is reached."""
        for index, line in enumerate(self._unread):
            if line.start >= self._position:
                self._unread = self._unread[index:]
                return True
            if line.start >= chunk.start:
                lines.append(line)
        self._unread = []
        return False


async def _blocks(
    pieces: AsyncIterator[bytes], splitter: LineSplitter
) -> AsyncGenerator[list[RawLine], None]:
    """Yield the lines in lists that are not empty."""
    async for lines in split_lines(pieces, splitter):
        if lines:
            yield lines


async def is_part_complete(context: PipelineContext, chunk: Chunk) -> bool:
    """Return whether the part exists and has a result for each line. Raises during an outage."""
    lines = 0
    try:
        async with context.storage.read(chunk.part_key or "") as pieces:
            async for piece in pieces:
                lines += piece.count(b"\n")
    except Exception as error:
        if await context.breaker.judge(error) is FailureKind.OUTAGE:
            raise
        logger.warning("the part %s can't be read: %r", chunk.part_key, error)
        return False
    return lines == chunk.lines


def _is_missing(error: Exception) -> bool:
    # LookupError: the row names no copy.
    return isinstance(error, ObjectMissing | LookupError)
