"""Stored parts: results of a chunk that are in the storage, although its row does not name them.

A failover or a restored backup can lose the completion of a chunk, and the results of a worker that
has run all lines can be rejected. The part still exists: it is adopted, and no line is run again.
"""

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from batchd.db import chunks as table
from batchd.domain.batches import Batch, LineCounts
from batchd.domain.chunks import Chunk
from batchd.domain.errors import BatchdError
from batchd.domain.ports import ObjectMissing
from batchd.domain.storage_keys import is_part_of, part_key, part_prefix
from batchd.pipeline import result_lines
from batchd.pipeline.context import ClaimLost, PipelineContext
from batchd.pipeline.failures import FailureKind
from batchd.pipeline.result_lines import OutcomeCounter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredPart:
    key: str
    size: int
    counts: LineCounts


async def adopt_part(context: PipelineContext, batch: Batch, chunk: Chunk) -> bool:
    """Complete the claimed chunk with results that an earlier claim stored, if there are any.

    They are copied to a key of this claim: the earlier one's worker may be alive and delete its
    own. Raises ClaimLost.
    """
    keys = await _find_keys(context, batch, [chunk])
    part = await _first_complete(context, chunk, keys.get(chunk.number, ()))
    key = part_key(batch, chunk)
    if part is None or not await _copy(context, part, key):
        return False
    async with context.database.transaction() as connection:
        completed = await table.complete(
            connection, batch.batch, chunk, key=key, size=part.size, counts=part.counts
        )
    if not completed:
        raise ClaimLost(
            f"chunk {chunk.number} of batch {batch.batch} was claimed by another worker"
        )
    logger.info("chunk %d of batch %s was completed by stored results", chunk.number, batch.batch)
    return True


async def with_stored_parts(
    context: PipelineContext, batch: Batch, chunks: Sequence[Chunk]
) -> list[Chunk]:
    """Return the chunks; give those that are not completed their stored part, if there is one."""
    pending = [chunk for chunk in chunks if chunk.part_key is None]
    if not pending:
        return list(chunks)
    keys = await _find_keys(context, batch, pending)
    return [await _with_part(context, chunk, keys.get(chunk.number, ())) for chunk in chunks]


async def _with_part(context: PipelineContext, chunk: Chunk, keys: Sequence[str]) -> Chunk:
    part = await _first_complete(context, chunk, keys)
    if part is None:
        return chunk
    return replace(chunk, part_key=part.key, part_size=part.size, counts=part.counts)


async def _find_keys(
    context: PipelineContext, batch: Batch, chunks: Sequence[Chunk]
) -> Mapping[int, list[str]]:
    """Return the keys of stored parts of exactly these lines of this input, by chunk number."""
    by_number = {chunk.number: chunk for chunk in chunks}
    keys: dict[int, list[str]] = defaultdict(list)
    prefix = part_prefix(batch, chunks[0] if len(chunks) == 1 else None)
    try:
        async for key in context.storage.list_keys(prefix):
            number = key.rpartition("/")[2].partition(".")[0]
            chunk = by_number.get(int(number)) if number.isdecimal() else None
            if chunk is not None and is_part_of(key, batch, chunk):
                keys[chunk.number].append(key)
    except BatchdError as error:
        if await context.breaker.judge(error) is FailureKind.OUTAGE:
            raise
        # Not fatal: the lines can be run again, or be cancelled.
        logger.warning("stored results of batch %s can't be listed: %s", batch.batch, error)
    return keys


async def _first_complete(
    context: PipelineContext, chunk: Chunk, keys: Sequence[str]
) -> _StoredPart | None:
    for key in keys:
        part = await _read(context, chunk, key)
        if part is not None:
            return part
    return None


async def _read(context: PipelineContext, chunk: Chunk, key: str) -> _StoredPart | None:
    """Return the part if it has a result for each line of the chunk; None otherwise."""
    counter = OutcomeCounter()
    size = lines = 0
    previous = chunk.first_line - 1
    try:
        async with context.storage.read(key) as pieces:
            async for data in _complete_lines(pieces):
                size += len(data)
                for line in data.removesuffix(b"\n").split(b"\n"):
                    # A part with cancelled lines does not pass: its worker stopped early.
                    number, result = result_lines.decode(line)
                    if number <= previous:
                        return None
                    previous = number
                    lines += 1
                    counter.add(number, result)
    except (ObjectMissing, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    except BatchdError as error:
        if await context.breaker.judge(error) is FailureKind.OUTAGE:
            raise
        logger.warning("stored results can't be read: %s: %s", key, error)
        return None
    if lines != chunk.lines:
        return None
    return _StoredPart(key=key, size=size, counts=counter.counts())


async def _complete_lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same data in pieces that end at a line break."""
    rest = b""
    async for piece in pieces:
        head, line_break, tail = piece.rpartition(b"\n")
        if line_break:
            yield rest + head + line_break
            rest = tail
        else:
            rest += tail
    if rest:
        yield rest


async def _copy(context: PipelineContext, part: _StoredPart, key: str) -> bool:
    """Return whether the part still existed."""
    try:
        async with context.storage.write(key) as writer:
            if not await writer.append(part.key, part.size):
                async with context.storage.read(part.key) as pieces:
                    async for piece in pieces:
                        await writer.write(piece)
    except ObjectMissing:
        return False
    return True
