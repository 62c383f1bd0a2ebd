"""The lines of one chunk, read from the copy: they have been found valid before."""

from collections.abc import AsyncIterator

from batchd.domain.batches import Batch
from batchd.domain.chunks import Chunk
from batchd.domain.storage_keys import input_of
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.line_parser import ParsedLine, parse
from batchd.pipeline.line_reader import RawLine, Splitter, split


async def read_lines(
    context: PipelineContext, batch: Batch, chunk: Chunk
) -> AsyncIterator[list[RawLine]]:
    """Give the lines that run, without the blank ones, some at a time."""
    splitter = Splitter(
        max_line_bytes=context.settings.max_line_bytes,
        first_line=chunk.first_line,
        start=chunk.start,
    )
    async with context.storage.read(
        input_of(batch), offset=chunk.start, length=chunk.size
    ) as pieces:
        async for found in split(pieces, splitter):
            yield [line for line in found if not line.blank]


def parse_valid(line: RawLine) -> ParsedLine:
    """Read a line of a chunk. One that is not valid now is a defect, or a changed setting."""
    if line.data is None:
        raise ValueError(f"line {line.number} is too long, and was not when it was validated")
    return parse(line.data, number=line.number)
