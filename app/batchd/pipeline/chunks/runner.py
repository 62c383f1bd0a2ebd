"""processing: runs the lines of one chunk and stores their results once."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from batchd.db import batches, chunks, incarnation
from batchd.domain.batches import Batch, Status
from batchd.domain.chunks import Chunk
from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.operations import ChecksUpstream
from batchd.domain.storage_keys import checkpoint_key, part_key
from batchd.observability import metrics
from batchd.pipeline.chunks.lease import ChunkLease, Interruption
from batchd.pipeline.chunks.line_runner import LineRunner
from batchd.pipeline.chunks.poisoned import fail_chunk
from batchd.pipeline.chunks.stored_parts import adopt_part
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.failures import FailureKind
from batchd.queue import jobs

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_CLAIMS = 16
"""Claims without a release after which a chunk is poisoned: it probably kills its workers."""

_RETRY_DELAY_S = 1.0
_STORE_TIMEOUT_S = 10.0
"""How long a stopping worker may take to store finished results."""
_MAX_STORE_ATTEMPTS = 60
"""Attempts to store results, except during outages that the worker's probe detects as well."""
_MAX_STORE_REFUSALS = 10
"""Refusals by the storage after which results are given up: credentials may just be changing."""


class ResultsNotStored(Exception):
    """The results of a chunk can't be stored, although the storage and the database respond."""


async def run_chunk(
    context: PipelineContext, batch_id: BatchId, number: int, *, poisoned: bool = False
) -> None:
    """Run the lines of a chunk and store their results, unless another worker claims it.

    The lines of a poisoned chunk fail without being run. Raises UpstreamUnavailable if what they
    call can't be called now: the chunk is then released.
    """
    claimed_at = context.clock.monotonic()
    async with context.database.transaction() as connection:
        batch = await batches.find_unscoped(connection, batch_id)
        if batch is not None and not poisoned:
            _check_upstream(context, batch)
        claimed = await chunks.claim(connection, batch_id, number, lease_s=context.settings.lease_s)
        is_remembered = await incarnation.is_current(connection, batch_id)
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
    if poisoned or chunk.claims - chunk.releases > MAX_CLAIMS:
        completed = await fail_chunk(context, batch, chunk)
    else:
        # The first claim of a chunk finds no results, unless the database has forgotten others.
        may_be_stored = chunk.claims > 1 or not is_remembered
        run = _ChunkRun(context, batch, chunk, claimed_at=claimed_at, may_be_stored=may_be_stored)
        completed = await run.run()
    metrics.CHUNK_SECONDS.observe(time.monotonic() - started_at)
    if completed:
        await mark_processed(context, batch_id)


def _check_upstream(context: PipelineContext, batch: Batch) -> None:
    """Raise UpstreamUnavailable before a claim that could run no line: it would read the copy."""
    operation = context.operations.find(batch.operation)
    if batch.status is Status.PROCESSING and isinstance(operation, ChecksUpstream):
        operation.check_upstream()


class _ChunkRun:
    """One claim of a chunk, from the first line to the stored results."""

    def __init__(
        self,
        context: PipelineContext,
        batch: Batch,
        chunk: Chunk,
        *,
        claimed_at: float,
        may_be_stored: bool,
    ) -> None:
        self._context = context
        self._batch = batch
        self._chunk = chunk
        self._runner = LineRunner(context, batch, chunk)
        self._lease = ChunkLease(
            context, batch, chunk, self._runner.progress, claimed_at=claimed_at
        )
        self._may_be_stored = may_be_stored
        """Whether an earlier claim may have stored results of the chunk."""
        self._uncertain = False
        """Whether results may have been stored although the response was lost."""

    async def run(self) -> bool:
        """Return whether the chunk was completed.

        A cancellation first lets the running lines finish and stores the results.
        """
        task = asyncio.create_task(self._run())
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            self._lease.interrupt(Interruption.STOPPING)
            stop_s = self._context.settings.worker_grace_s + _STORE_TIMEOUT_S
            await asyncio.wait([task], timeout=stop_s)
            raise
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.debug("chunk %d ended: %r", self._chunk.number, error)
        return task.result()

    async def _run(self) -> bool:
        with self._runner.opened():
            return await self._run_once()

    async def _run_once(self) -> bool:
        try:
            async with self._lease.maintained():
                if self._may_be_stored and await adopt_part(
                    self._context, self._batch, self._chunk
                ):
                    return True
                await self._runner.load()
                defect = await self._run_lines()
                key = self._output_key()
                if key is not None:
                    await self._retry_outages(lambda: self._upload(key))
            # Without heartbeats, which would renew the lease that a checkpoint ends.
            if key is not None and not await self._retry_outages(lambda: self._record(key)):
                return False
            if defect is not None:
                raise defect
            if self._runner.done:
                return True
            raise ProcessingTimeout("The lines of the chunk could not be finished by this worker.")
        except BaseException as error:
            # The worker is alive: whatever failed is counted as a failure, not as a death.
            await self._release(is_patient=not isinstance(error, asyncio.CancelledError))
            raise

    async def _run_lines(self) -> Exception | None:
        """Return the defect that kept lines from being run, if there was one."""
        try:
            await self._runner.run(self._lease)
        except ProcessingTimeout:
            raise
        except Exception as error:  # noqa: BLE001  # raised after the finished lines are stored
            return error
        if self._lease.interruption is Interruption.REVOKED:
            self._runner.cancel_unfinished()
        if not self._runner.done and self._lease.interruption is None:
            return ValueError(
                f"lines of chunk {self._chunk.number} of {self._batch.batch} have no results"
            )
        return None

    def _output_key(self) -> str | None:
        """Return the key of the results: a part if all lines have one, otherwise a checkpoint."""
        batch, chunk = self._batch, self._chunk
        if self._runner.done:
            return part_key(batch, chunk)
        if self._runner.has_new_results:
            return checkpoint_key(batch, chunk)
        return None

    async def _upload(self, key: str) -> None:
        async with self._context.storage.write(key) as writer:
            for block in self._runner.results.blocks():
                await writer.write(block)

    async def _record(self, key: str) -> bool:
        """Return whether the results were accepted; delete those that certainly were not."""
        counts = self._runner.counter.counts()
        record = chunks.complete if self._runner.done else chunks.save_checkpoint
        async with self._context.database.transaction() as connection:
            recorded = await record(
                connection,
                self._batch.batch,
                self._chunk,
                key=key,
                size=self._runner.results.size,
                counts=counts,
            )
        if not recorded:
            metrics.REJECTED_RESULTS.inc()
            if not self._uncertain:
                with suppress(StorageRefused):  # deleted with the batch's other files
                    await self._context.storage.delete([key])
            return False
        for outcome in ("succeeded", "failed", "cancelled"):
            number = getattr(counts, outcome) - getattr(self._runner.checkpointed, outcome)
            metrics.LINES.labels(outcome).inc(number)
        return True

    async def _retry_outages(self, action: Callable[[], Awaitable[T]]) -> T:
        """Retry storing finished lines during an outage, for as long as they can be of use."""
        attempts = refusals = 0
        job = Job(Stage.CHUNK, self._batch.batch, self._chunk.number)
        while True:
            try:
                return await action()
            except (ProcessingTimeout, StorageRefused) as error:
                self._context.breaker.record_failure(job.key, error)
                if self._lease.interruption is Interruption.REVOKED and self._lease.expired:
                    raise
                if isinstance(error, StorageRefused):
                    refusals += 1
                    if refusals >= _MAX_STORE_REFUSALS:
                        raise
                else:
                    self._uncertain = True
                    attempts += await self._context.breaker.judge(error) is not FailureKind.OUTAGE
                    if attempts >= _MAX_STORE_ATTEMPTS:
                        raise ResultsNotStored(str(error)) from error
            await asyncio.sleep(_RETRY_DELAY_S)

    async def _release(self, *, is_patient: bool) -> None:
        """Release the chunk, after an outage of the database too if the worker is not stopped.

        A claim that was not released would count as a death.
        """
        while True:
            with suppress(ProcessingTimeout):
                async with self._context.database.connection() as connection:
                    await chunks.release(connection, self._batch.batch, self._chunk)
                return
            if not is_patient or self._lease.interruption is Interruption.STOPPING:
                return
            await asyncio.sleep(_RETRY_DELAY_S)


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
