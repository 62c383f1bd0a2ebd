"""Checkpoints: the results of the finished lines of a chunk whose worker stopped."""

import math
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable

import msgspec

from batchd.domain.chunks import Chunk
from batchd.domain.operations import OperationResult
from batchd.pipeline import result_lines
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.line_reader import LineSplitter, split_lines
from batchd.pipeline.result_lines import OutcomeCounter

_BLOCK_BYTES = 256 * 1024


class FinishedLine(msgspec.Struct, frozen=True):
    """A line that need not be run again."""

    number: int
    outcome: OperationResult
    """Without the body, which only the result line has."""
    result_line: bytes
    """With its line break."""


def _decode(result_line: bytes) -> FinishedLine:
    number, outcome = result_lines.decode(result_line)
    return FinishedLine(number, outcome, result_line + b"\n")


async def read_checkpoint(context: PipelineContext, chunk: Chunk) -> AsyncIterator[FinishedLine]:
    """Yield the finished lines of the chunk, if it has any, in file order. Raises ObjectMissing."""
    if chunk.checkpoint_key is None:
        return
    splitter = LineSplitter(max_line_bytes=sys.maxsize)
    async with context.storage.read(chunk.checkpoint_key) as pieces:
        async for lines in split_lines(pieces, splitter):
            for line in lines:
                yield _decode(line.data or b"")


async def finished_numbers(context: PipelineContext, chunk: Chunk) -> frozenset[int]:
    """Return the numbers of the chunk's finished lines. Raises ObjectMissing."""
    return frozenset([line.number async for line in read_checkpoint(context, chunk)])


async def merge_finished(
    context: PipelineContext,
    chunk: Chunk,
    unfinished: Iterable[tuple[int, str | None]],
    result: OperationResult | None,
    counter: OutcomeCounter,
) -> AsyncIterator[bytes]:
    """Yield the result lines of a chunk that was not completed, and count their outcomes.

    Lines that are not in its checkpoint, given by number and id, all get `result`; None means
    cancelled. Raises ObjectMissing.
    """
    remaining = deque(unfinished)
    block = bytearray()

    def add_until(number: float) -> None:
        while remaining and remaining[0][0] < number:
            line_number, line_id = remaining.popleft()
            counter.add(line_number, result)
            block.extend(result_lines.encode(line_number, line_id, result))

    async for finished in read_checkpoint(context, chunk):
        add_until(finished.number)
        counter.add(finished.number, finished.outcome)
        block += finished.result_line
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    add_until(math.inf)
    yield bytes(block)
