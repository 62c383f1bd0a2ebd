"""processing: runs the lines of one chunk and stores their results once."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from batchd.db import batches, chunks
from batchd.domain.batches import Batch, LineCounts, Status
from batchd.domain.chunks import Chunk
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.storage_keys import part_key
from batchd.observability import metrics
from batchd.pipeline.chunks.lease import ChunkLease, Interruption
from batchd.pipeline.chunks.line_runner import LineRunner
from batchd.pipeline.chunks.poisoned import fail_chunk
from batchd.pipeline.context import PipelineContext
from batchd.queue import jobs

logger = logging.getLogger(__name__)

MAX_CLAIMS = 16
"""Claims not released, after which a chunk is poisoned: it probably kills its workers."""

_RETRY_DELAY_S = 1.0


async def run_chunk(
    context: PipelineContext, batch_id: BatchId, number: int, *, poisoned: bool = False
) -> None:
    """Run the lines of a chunk and store their results, unless another worker claims it.

    The lines of a poisoned chunk fail without being run.
    """
    claimed_at = context.clock.monotonic()
    async with context.database.transaction() as connection:
        claimed = await chunks.claim(connection, batch_id, number, lease_s=context.settings.lease_s)
        batch = await batches.find_unscoped(connection, batch_id)
    if claimed is None or batch is None:
        # Completed already, perhaps by a worker that died before it changed the batch's status.
        await mark_processed(context, batch_id)
        return
    started_at = time.monotonic()
    chunk, silent_s = claimed
    if silent_s is not None:
        metrics.TAKEOVERS.inc()
        logger.warning(
            "chunk %d of batch %s was taken over, %.1f s after its worker's last heartbeat",
            number,
            batch_id,
            silent_s,
        )
    try:
        if poisoned or chunk.claims - chunk.releases > MAX_CLAIMS:
            completed = await fail_chunk(context, batch, chunk)
        else:
            completed = await _run(context, batch, chunk, claimed_at=claimed_at)
    except BaseException:
        # The worker is alive: whatever failed is counted as a failure, not as a death.
        await _release(context, batch, chunk)
        raise
    metrics.CHUNK_SECONDS.observe(time.monotonic() - started_at)
    if completed:
        await mark_processed(context, batch_id)


async def _run(context: PipelineContext, batch: Batch, chunk: Chunk, *, claimed_at: float) -> bool:
    """Return whether the results were stored."""
    runner = LineRunner(context, batch, chunk)
    lease = ChunkLease(context, batch, chunk, runner.counter.counts, claimed_at=claimed_at)
    async with lease.maintained():
        await runner.load()
        await runner.run(lease)
        if not runner.done:
            if lease.interruption is Interruption.EXPIRED:
                raise ProcessingTimeout("The lease of the chunk could not be renewed in time.")
            if lease.interruption is None:
                raise ValueError(f"lines of chunk {chunk.number} of {batch.batch} have no results")
        return await _complete(context, batch, chunk, runner, lease)


async def _complete(
    context: PipelineContext, batch: Batch, chunk: Chunk, runner: LineRunner, lease: ChunkLease
) -> bool:
    """Store the results, and retry through outages as long as the lease is held."""
    blocks = list(runner.results())
    counts = runner.counter.counts()
    while True:
        try:
            completed = await _store(context, batch, chunk, blocks, counts)
        except ProcessingTimeout:
            if lease.interrupted.is_set():
                raise
            await asyncio.sleep(_RETRY_DELAY_S)
            continue
        break
    if completed:
        _observe(counts)
    else:
        metrics.REJECTED_RESULTS.inc()
    return completed


async def _store(
    context: PipelineContext,
    batch: Batch,
    chunk: Chunk,
    blocks: Sequence[bytes],
    counts: LineCounts,
) -> bool:
    """Store the results; if they are refused, delete them again and return False."""
    key = part_key(batch, chunk)
    async with context.storage.write(key) as writer:
        for block in blocks:
            await writer.write(block)
    async with context.database.transaction() as connection:
        completed = await chunks.complete(
            connection,
            batch.batch,
            chunk,
            part_key=key,
            part_size=sum(map(len, blocks)),
            counts=counts,
        )
    if not completed:
        await context.storage.delete([key])
    return completed


def _observe(counts: LineCounts) -> None:
    for outcome in ("succeeded", "failed", "cancelled"):
        metrics.LINES.labels(outcome).inc(getattr(counts, outcome))


async def _release(context: PipelineContext, batch: Batch, chunk: Chunk) -> None:
    with suppress(ProcessingTimeout):
        async with context.database.connection() as connection:
            await chunks.release(connection, batch.batch, chunk)


async def mark_processed(context: PipelineContext, batch_id: BatchId) -> bool:
    """If all chunks are completed, change the status and queue the results stage.

    Return whether the status was changed. Call it after the chunk has been committed: of two chunks
    completed concurrently, at least one then sees both.
    """
    async with context.database.transaction() as connection:
        if await chunks.any_pending(connection, batch_id):
            return False
        processed = await batches.transition(
            connection, batch_id, Status.PROCESSED, now=context.clock.now()
        )
        if processed is not None:
            await jobs.enqueue(connection, processed, [Job(Stage.RESULTS, batch_id)])
    return processed is not None
