"""The reader of one chunk's lines, which have been validated before."""

from collections.abc import AsyncIterator

from batchd.domain.batches import Batch
from batchd.domain.chunks import Chunk
from batchd.domain.storage_keys import require_input_key
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.line_parser import ParsedLine, parse
from batchd.pipeline.line_reader import LineSplitter, RawLine, split_lines


async def read_lines(
    context: PipelineContext, batch: Batch, chunk: Chunk
) -> AsyncIterator[list[RawLine]]:
    """Yield the lines of the chunk in lists."""
    splitter = LineSplitter(
        max_line_bytes=context.settings.max_line_bytes,
        first_line=chunk.first_line,
        start=chunk.start,
    )
    async with context.storage.read(
        require_input_key(batch), offset=chunk.start, length=chunk.size
    ) as pieces:
        async for lines in split_lines(pieces, splitter):
            yield lines


def parse_valid(line: RawLine) -> ParsedLine:
    """Parse a validated line. Raises ValueError if a setting was lowered since then."""
    if line.data is None:
        raise ValueError(f"line {line.number} exceeds the limit, but did not when validated")
    return parse(line.data, number=line.number)
