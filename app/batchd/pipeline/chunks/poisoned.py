"""Poisoned chunks: their lines fail without being run, and without the copy or the storage."""

import logging

from batchd.db import chunks
from batchd.domain.batches import MAX_SAMPLE_LINES, Batch, ErrorCount, LineCounts
from batchd.domain.chunks import NO_PART, Chunk
from batchd.domain.errors import General
from batchd.pipeline.context import PipelineContext

logger = logging.getLogger(__name__)


async def fail_chunk(context: PipelineContext, batch: Batch, chunk: Chunk) -> bool:
    """Complete a claimed chunk in its row alone; return False if the claim is lost.

    Nothing is read: reading may be what made its workers fail or die. The results stage writes
    the lines; those of a checkpoint keep their results.
    """
    logger.error("chunk %d of batch %s is dead-lettered", chunk.number, batch.batch)
    failed = chunk.lines - chunk.counts.done
    # Only the checkpoint says which lines are not in it.
    samples = range(chunk.first_line, chunk.first_line + min(failed, MAX_SAMPLE_LINES))
    lines = () if chunk.counts.done else tuple(samples)
    errors = {General.status: ErrorCount(count=failed, lines=lines)} if failed else {}
    async with context.database.transaction() as connection:
        return await chunks.complete(
            connection,
            batch.batch,
            chunk,
            key=NO_PART,
            size=chunk.part_size,
            counts=chunk.counts.plus(LineCounts(failed=failed, errors=errors)),
        )
