"""processing: one chunk of lines is run, and its results are stored once."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from batchd.db import batches, chunks
from batchd.domain.batches import Batch, LineCounts, Status
from batchd.domain.chunks import Chunk
from batchd.domain.errors import General, ProcessingTimeout
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.storage_keys import part_key
from batchd.observability import metrics
from batchd.pipeline.chunks.lease import ChunkLease
from batchd.pipeline.chunks.line_runner import LineRunner
from batchd.pipeline.context import PipelineContext
from batchd.queue import jobs

logger = logging.getLogger(__name__)

MAX_CLAIMS = 16
"""A chunk that so many workers died of probably ends them: its lines fail."""

_RETRY_S = 1.0


async def run_chunk(
    context: PipelineContext, batch_id: BatchId, no: int, *, hopeless: bool = False
) -> None:
    """Run the lines of a chunk and store their results, unless another worker takes it over.

    If it is hopeless, or too many workers have died of it, its lines fail without being run.
    """
    async with context.database.transaction() as connection:
        taken = await chunks.claim(connection, batch_id, no, lease_s=context.settings.lease_s)
        batch = await batches.find_any(connection, batch_id)
    if taken is None or batch is None:
        # Done already, perhaps by a worker that did not come to say so.
        await note_processed(context, batch_id)
        return
    began = time.monotonic()
    chunk, silent_s = taken
    if silent_s is not None:
        metrics.TAKEOVERS.inc()
        logger.warning("chunk %d of %s is taken over after %.1f s", no, batch_id, silent_s)
    try:
        hopeless = hopeless or chunk.token - chunk.returned > MAX_CLAIMS
        settled = await _run(context, batch, chunk, hopeless=hopeless)
    except (asyncio.CancelledError, ProcessingTimeout):
        await _give_back(context, batch, chunk)
        raise
    metrics.CHUNK_SECONDS.observe(time.monotonic() - began)
    if settled:
        await note_processed(context, batch_id)


async def _run(context: PipelineContext, batch: Batch, chunk: Chunk, *, hopeless: bool) -> bool:
    run = LineRunner(context, batch, chunk)
    hold = ChunkLease(context, batch, chunk, run.counter.tally)
    async with hold.held():
        await run.load()
        if hopeless:
            logger.error("chunk %d of %s is given up", chunk.no, batch.batch)
            run.give_up(General("The line could not be run: every worker that tried has failed."))
        else:
            await run.run(hold.lost)
        return await _settle(context, batch, chunk, run, hold)


async def _settle(
    context: PipelineContext, batch: Batch, chunk: Chunk, run: LineRunner, hold: ChunkLease
) -> bool:
    """Store the results; they are worth waiting for a storage or a database that is away."""
    blocks = list(run.results())
    tally = run.counter.tally()
    while True:
        try:
            settled = await _store(context, batch, chunk, blocks, tally)
        except ProcessingTimeout:
            if hold.lost.is_set():
                raise
            await asyncio.sleep(_RETRY_S)
            continue
        break
    if settled:
        _count(tally)
    else:
        metrics.REFUSED.inc()
    return settled


async def _store(
    context: PipelineContext, batch: Batch, chunk: Chunk, blocks: Sequence[bytes], tally: LineCounts
) -> bool:
    """Return whether the results are wanted; if not, they are removed again."""
    key = part_key(batch, chunk.no, chunk.token)
    async with context.storage.write(key) as writer:
        for block in blocks:
            await writer.write(block)
    async with context.database.transaction() as connection:
        settled = await chunks.complete(
            connection,
            batch.batch,
            chunk,
            part_key=key,
            part_size=sum(map(len, blocks)),
            tally=tally,
        )
    if not settled:
        await context.storage.delete([key])
    return settled


def _count(tally: LineCounts) -> None:
    for outcome in ("succeeded", "failed", "cancelled"):
        metrics.LINES.labels(outcome).inc(getattr(tally, outcome))


async def _give_back(context: PipelineContext, batch: Batch, chunk: Chunk) -> None:
    with suppress(ProcessingTimeout):
        async with context.database.connection() as connection:
            await chunks.release(connection, batch.batch, chunk)


async def note_processed(context: PipelineContext, batch_id: BatchId) -> bool:
    """If no chunk is left to do, have the results written; return whether that was news.

    Asked after the chunk's own commit: of two last chunks at least one sees them both done.
    """
    async with context.database.transaction() as connection:
        if await chunks.any_pending(connection, batch_id):
            return False
        processed = await batches.move(
            connection, batch_id, Status.PROCESSED, now=context.clock.now()
        )
        if processed is not None:
            await jobs.enqueue(connection, processed, [Job(Stage.RESULTS, batch_id)])
    return processed is not None
