"""The line runner: runs the lines of one chunk concurrently and collects their results."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from batchd.domain.batches import Batch, LineCounts
from batchd.domain.chunks import Chunk
from batchd.domain.errors import OperationNotAllowed, ProcessingTimeout, QuotaViolation
from batchd.domain.operations import OperationCall, OperationResult, UpstreamUnavailable
from batchd.observability import logs
from batchd.pipeline import result_lines
from batchd.pipeline.chunks.checkpoint import read_checkpoint
from batchd.pipeline.chunks.lease import ChunkLease, Interruption
from batchd.pipeline.chunks.permission import CreatorPermission
from batchd.pipeline.chunks.reader import parse_valid, read_lines
from batchd.pipeline.chunks.result_store import ResultStore
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.failures import FailureKind
from batchd.pipeline.line_parser import ParsedLine
from batchd.pipeline.line_reader import RawLine

logger = logging.getLogger(__name__)

_GRACE_PERIOD_S = 0.5
_LINES_PER_YIELD = 100
"""Lines after which control returns to the event loop, in case the operation never awaits."""
_RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


class LineRunner:
    def __init__(self, context: PipelineContext, batch: Batch, chunk: Chunk) -> None:
        self._context = context
        self._batch = batch
        self._chunk = chunk
        self._key_prefix = f"{batch.batch}:"
        self._lines: list[RawLine] = []
        self._stopping = asyncio.Event()
        self._unavailable: UpstreamUnavailable | None = None
        self.results = ResultStore(context.memory)
        self.counter = result_lines.OutcomeCounter()
        self.checkpointed = LineCounts()
        """Outcomes of the lines that an earlier claim finished."""

    async def load(self) -> None:
        """Read the lines, which have been validated, and the results of those that are finished.

        Raises ValueError if the number of lines differs.
        """
        chunk = self._chunk
        async for lines in read_lines(self._context, self._batch, chunk):
            self._lines += lines
        if len(self._lines) != chunk.lines:
            raise ValueError(
                f"chunk {chunk.number} of batch {self._batch.batch} has {len(self._lines)} lines, "
                f"but {chunk.lines} were validated"
            )
        await self._load_checkpoint()

    async def _load_checkpoint(self) -> None:
        indexes = {line.number: line_index for line_index, line in enumerate(self._lines)}
        try:
            async for finished in read_checkpoint(self._context, self._chunk):
                self.results.add(indexes[finished.number], finished.result_line)
                self.counter.add(finished.number, finished.outcome)
        except Exception as error:
            if await self._context.breaker.judge(error) in {FailureKind.OUTAGE, FailureKind.WORKER}:
                raise
            logger.warning(
                "%s can't be read, so its lines are run again: %r",
                self._chunk.checkpoint_key,
                error,
            )
        self.checkpointed = self.counter.counts()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Count the lines and the results towards the worker's and the batch's limits."""
        memory, quota = self._context.memory, self._context.results_quota
        # Unconditionally: the number and the size of chunks have limits of their own.
        memory.reserve(self._chunk.size)
        try:
            with (
                self.results,
                quota.counting(self._batch.batch, self._chunk.number, self.results),
            ):
                yield
        finally:
            memory.release(self._chunk.size)

    def progress(self) -> tuple[LineCounts, int]:
        """Return the line counts and the bytes of results so far."""
        return self.counter.counts(), self.results.size

    @property
    def done(self) -> bool:
        """Whether every line has a result."""
        return len(self.results) == len(self._lines)

    @property
    def has_new_results(self) -> bool:
        return len(self.results) > self.checkpointed.done

    def _unfinished(self) -> Iterator[tuple[int, RawLine]]:
        return ((i, line) for i, line in enumerate(self._lines) if i not in self.results)

    def cancel_unfinished(self) -> None:
        """Record the lines that have no result as cancelled."""
        for line_index, line in self._unfinished():
            self._record(line_index, parse_valid(line), result_lines.CANCELLED)

    async def run(self, lease: ChunkLease) -> None:
        """Run the lines concurrently until all are done or the lease is interrupted.

        Raises UpstreamUnavailable, after the running lines have ended, if lines have to wait.
        """
        permission = CreatorPermission(self._context, self._batch, lease)
        await permission.refresh()
        remaining = iter(self._in_turn())
        concurrency = min(self._context.settings.line_concurrency, len(self._lines))
        tasks = [
            asyncio.create_task(self._run_lines(remaining, permission, lease))
            for _ in range(concurrency)
        ]
        # Ends with the first defect, while the other tasks go on.
        runners = asyncio.gather(*tasks)
        refresher = asyncio.create_task(permission.keep_fresh())
        interrupted = asyncio.create_task(lease.interrupted.wait())
        try:
            futures: list[asyncio.Future[Any]] = [runners, interrupted]
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            await asyncio.wait(tasks, timeout=self._grace_s(lease))
        finally:
            refresher.cancel()
            interrupted.cancel()
            for task in tasks:
                task.cancel()
            # None may outlive the chunk: it would go on to call, and to keep results.
            await asyncio.wait(tasks)
            # Raises only defects: the failure of a line is its result.
            with suppress(asyncio.CancelledError):
                await runners
        if self._unavailable is not None and lease.interruption is None:
            raise self._unavailable

    def _in_turn(self) -> list[tuple[int, RawLine]]:
        """Return the unfinished lines, beginning with another one after each release.

        A single line can be what its upstream fails of: it must not always be the one that probes.
        """
        unfinished = list(self._unfinished())
        first = self._chunk.releases % max(len(unfinished), 1)
        return unfinished[first:] + unfinished[:first]

    def _grace_s(self, lease: ChunkLease) -> float:
        """Return how long the lines that have started may take to finish."""
        if lease.interruption in {None, Interruption.STOPPING}:
            return self._context.settings.worker_grace_s
        return _GRACE_PERIOD_S

    async def _run_lines(
        self,
        remaining: Iterator[tuple[int, RawLine]],
        permission: CreatorPermission,
        lease: ChunkLease,
    ) -> None:
        for line_index, line in remaining:
            if self._stopping.is_set():
                return
            if line_index and line_index % _LINES_PER_YIELD == 0:
                await asyncio.sleep(0)
            parsed = parse_valid(line)
            try:
                result = await self._run_line(line, parsed, permission)
            except asyncio.CancelledError:
                # The line may not be started (any more), or did not end within the grace period.
                return
            except UpstreamUnavailable as error:
                self._unavailable = error
                self._stopping.set()
                return
            self._record(line_index, parsed, result)
            if self.results.overflowing:
                lease.interrupt(Interruption.OVERFLOW)

    async def _run_line(
        self, line: RawLine, parsed: ParsedLine, permission: CreatorPermission
    ) -> OperationResult:
        """Run the line as the batch's creator, and retry it after an outage.

        Raises CancelledError if the lease was interrupted before the line had a result, and
        UpstreamUnavailable if the line has to wait.
        """
        logs.clear_trace()
        for delay_s in _RETRY_DELAYS_S:
            try:
                return await self._call(line, parsed, permission)
            except UpstreamUnavailable:
                raise
            except ProcessingTimeout:
                await self._pause(delay_s)
            except Exception as error:  # noqa: BLE001  # any error is the line's result
                return self._failed(error, line)
        outage = ProcessingTimeout("The database or the storage was unavailable for too long.")
        return self._failed(outage, line)

    def _failed(self, error: Exception, line: RawLine) -> OperationResult:
        return result_lines.failed_result(
            error, line_key=self._key(line), help_base=self._context.settings.help_url
        )

    async def _pause(self, delay_s: float) -> None:
        """Wait before a retry. Raises CancelledError if the runner is being stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
                raise asyncio.CancelledError

    async def _call(
        self, line: RawLine, parsed: ParsedLine, permission: CreatorPermission
    ) -> OperationResult:
        quota = self._context.results_quota
        is_exhausted = await quota.is_exhausted(self._batch.batch)
        name = self._batch.operation
        operation = self._context.operations.find(name)
        if operation is None:
            raise OperationNotAllowed(f"'{name}' can no longer be run in batches.")
        caller = await permission.require()
        if is_exhausted:
            raise QuotaViolation(
                f"The line was not run: the results of the batch have reached {quota.limit} bytes. "
                "Run the remaining lines in another batch."
            )
        call = OperationCall(
            caller=caller,
            request=parsed.request,
            key=self._key(line),
            authorize=permission.require,
            pause=self._pause,
        )
        return await operation.run(call)

    def _key(self, line: RawLine) -> str:
        return f"{self._key_prefix}{line.number}"

    def _record(self, line_index: int, parsed: ParsedLine, result: OperationResult | None) -> None:
        number = self._lines[line_index].number
        self.results.add(line_index, result_lines.encode(number, parsed.id, result))
        self.counter.add(number, result)
