"""Lines that have no result in the storage: who they are, and whether a part is still whole."""

import logging

from batchd.domain.batches import Batch
from batchd.domain.chunks import Chunk
from batchd.domain.ports import ObjectMissing
from batchd.pipeline.chunks.reader import parse_valid, read_lines
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.failures import FailureKind, kind_of

logger = logging.getLogger(__name__)


class LineIdentifier:
    """Names lines by number, and by id for as long as the copy is readable.

    The rows of the chunks are enough: a batch ends although its copy is gone. Numbers taken from
    a row do not leave out blank lines, which only the copy shows.
    """

    def __init__(
        self, context: PipelineContext, batch: Batch, *, read_copy: bool, allow_failures: bool
    ) -> None:
        """Don't read the copy if `read_copy` is false; `allow_failures` of any kind in reading it.

        Without `allow_failures` only a copy that is gone is done without.
        """
        self._context = context
        self._batch = batch
        self._read_copy = read_copy
        self._allow_failures = allow_failures

    async def identify(self, chunk: Chunk) -> list[tuple[int, str | None]]:
        """Return the number and the id of each line of the chunk."""
        if self._read_copy:
            try:
                return await self._read(chunk)
            except Exception as error:
                is_outage = kind_of(error) is FailureKind.OUTAGE
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

    async def _read(self, chunk: Chunk) -> list[tuple[int, str | None]]:
        identified = [
            (line.number, parse_valid(line).id)
            async for lines in read_lines(self._context, self._batch, chunk)
            for line in lines
        ]
        if len(identified) != chunk.lines:
            raise ValueError(
                f"chunk {chunk.number} of batch {self._batch.batch} has {len(identified)} lines, "
                f"but {chunk.lines} were validated"
            )
        return identified


async def is_part_whole(context: PipelineContext, chunk: Chunk) -> bool:
    """Return whether the part is there, with a result for each line; wait out an outage."""
    lines = 0
    try:
        async with context.storage.read(chunk.part_key or "") as pieces:
            async for piece in pieces:
                lines += piece.count(b"\n")
    except Exception as error:
        if kind_of(error) is FailureKind.OUTAGE:
            raise
        logger.warning("the part %s can't be read: %r", chunk.part_key, error)
        return False
    return lines == chunk.lines


def _is_missing(error: Exception) -> bool:
    # LookupError: the row names no copy.
    return isinstance(error, ObjectMissing | LookupError)
