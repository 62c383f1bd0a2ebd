"""processing: one chunk of lines is run, and its results are stored once."""

import asyncio
import logging
from collections.abc import Iterator

from batchd import logs
from batchd.db import batches, chunks, jobs
from batchd.db.chunks import Chunk
from batchd.db.jobs import Job, Stage
from batchd.domain.batches import Batch, Status
from batchd.domain.callers import Caller
from batchd.domain.errors import (
    General,
    OperationNotAllowed,
    ProcessingTimeout,
    Unauthorized,
)
from batchd.domain.ids import BatchId
from batchd.domain.operations import Answer, Call
from batchd.services.keys import part_key
from batchd.services.stages import lines
from batchd.services.stages.chunk_lines import parse_valid, read_lines
from batchd.services.stages.context import Context
from batchd.services.stages.parsing import ParsedLine
from batchd.services.stages.reading import RawLine

logger = logging.getLogger(__name__)

MAX_TAKERS = 8
"""A chunk that so many workers did not finish probably ends them: its lines fail."""

_PULSE_S = 0.5
_GRACE_S = 0.5
_RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


async def run_chunk(context: Context, batch_id: BatchId, no: int) -> None:
    """Run the lines of a chunk and store their results, unless another worker takes it over."""
    async with context.database.transaction() as connection:
        chunk = await chunks.take(connection, batch_id, no, lease_s=context.settings.lease_s)
        batch = await batches.find_any(connection, batch_id)
    if chunk is None or batch is None:
        return
    run = _ChunkRun(context, batch, chunk)
    await run.load()
    if chunk.token > MAX_TAKERS:
        logger.error("chunk %d of %s given up after %d workers", no, batch_id, MAX_TAKERS)
        run.give_up()
    else:
        await run.run()
    await _settle(context, batch, chunk, run)


async def _settle(context: Context, batch: Batch, chunk: Chunk, run: "_ChunkRun") -> None:
    key = part_key(batch, chunk.no, chunk.token)
    async with context.storage.write(key) as writer:
        for line in run.results():
            await writer.write(line)
    async with context.database.transaction() as connection:
        settled = await chunks.settle(
            connection, batch.batch, chunk, part_key=key, tally=run.counter.tally()
        )
    if settled:
        await note_processed(context, batch.batch)
    else:
        await context.storage.delete([key])


async def note_processed(context: Context, batch_id: BatchId) -> bool:
    """If no chunk is left to do, have the results written; return whether that was news.

    Asked after the chunk's own commit: of two last chunks at least one sees them both done.
    """
    async with context.database.transaction() as connection:
        if await chunks.any_todo(connection, batch_id):
            return False
        processed = await batches.move(
            connection, batch_id, Status.PROCESSED, now=context.clock.now()
        )
        if processed is not None:
            await jobs.enqueue(connection, [Job(Stage.RESULTS, batch_id)])
    return processed is not None


class _ChunkRun:
    """The lines of a chunk and what becomes of them."""

    def __init__(self, context: Context, batch: Batch, chunk: Chunk) -> None:
        self._context = context
        self._batch = batch
        self._chunk = chunk
        self._lines: list[RawLine] = []
        self._results: list[bytes | None] = []
        self._stopping = False
        self._caller: Caller | Unauthorized | None = None
        self.counter = lines.Counter()

    async def load(self) -> None:
        """Read the lines; they have been found valid."""
        chunk = self._chunk
        async for found in read_lines(self._context, self._batch, chunk):
            self._lines += found
        if len(self._lines) != chunk.lines:
            raise ValueError(
                f"chunk {chunk.no} of {self._batch.batch} has {len(self._lines)} lines, "
                f"not the {chunk.lines} that were validated"
            )
        self._results = [None] * len(self._lines)

    def give_up(self) -> None:
        """Let every line fail."""
        error = General("The line could not be run: the workers that tried have died.")
        for place, line in enumerate(self._lines):
            logs.new_trace()
            self._record(place, parse_valid(line), lines.failure(error, line=self._key(line)))

    async def run(self) -> None:
        """Run the lines, some at a time, until all are done or the chunk is to be stopped."""
        await self._look_up_caller()
        waiting = iter(enumerate(self._lines))
        runners = [
            asyncio.create_task(self._run_lines(waiting))
            for _ in range(min(self._context.settings.line_concurrency, len(self._lines)))
        ]
        try:
            while await self._busy(runners, _PULSE_S):
                if not await self._pulse():
                    self._stopping = True
                    await self._busy(runners, _GRACE_S)
                    break
        finally:
            for runner in runners:
                runner.cancel()
            ended = await asyncio.gather(*runners, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    def results(self) -> Iterator[bytes]:
        """Give the chunk's lines of the results file; what has not been run is cancelled."""
        for line, result in zip(self._lines, self._results, strict=True):
            if result is None:
                self.counter.add(line.number, lines.CANCELLED)
                yield lines.encode(line.number, parse_valid(line).id, lines.CANCELLED)
            else:
                yield result

    async def _busy(self, runners: list[asyncio.Task[None]], timeout_s: float) -> bool:
        _, running = await asyncio.wait(runners, timeout=timeout_s)
        return bool(running)

    async def _pulse(self) -> bool:
        """Say how far it is; return whether to go on. A database that is away does not stop us:

        if it stays away until the lease has run out, what we write may be refused, no more.
        """
        try:
            async with self._context.database.connection() as connection:
                going_on = await chunks.pulse(
                    connection,
                    self._batch.batch,
                    self._chunk,
                    lease_s=self._context.settings.lease_s,
                    tally=self.counter.tally(),
                )
            await self._look_up_caller()
        except ProcessingTimeout:
            return True
        return going_on

    async def _look_up_caller(self) -> None:
        """See who the creator is now: a role that was taken away counts from here on."""
        try:
            self._caller = await self._context.users.current(self._batch.user)
        except Unauthorized as error:
            self._caller = error

    async def _run_lines(self, waiting: Iterator[tuple[int, RawLine]]) -> None:
        for place, line in waiting:
            if self._stopping:
                return
            parsed = parse_valid(line)
            self._record(place, parsed, await self._run_line(line, parsed))

    async def _run_line(self, line: RawLine, parsed: ParsedLine) -> Answer:
        """Run it as its creator, again if batchd itself was not able to."""
        logs.new_trace()
        for delay_s in _RETRY_DELAYS_S:
            try:
                return await self._call(line, parsed)
            except ProcessingTimeout:
                await asyncio.sleep(delay_s)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the line's outcome
                return lines.failure(error, line=self._key(line))
        silence = ProcessingTimeout("The database or the storage did not answer for a long time.")
        return lines.failure(silence, line=self._key(line))

    async def _call(self, line: RawLine, parsed: ParsedLine) -> Answer:
        name = self._batch.operation
        operation = self._context.operations.find(name)
        if operation is None:
            raise OperationNotAllowed(f"'{name}' can no longer be run in batches.")
        if not isinstance(self._caller, Caller):
            raise self._caller or Unauthorized("The creator of the batch is not known.")
        await self._context.gate.require(self._caller, name, lambda: self._batch)
        call = Call(caller=self._caller, parts=parsed.parts, key=self._key(line))
        return await operation.run(call)

    def _key(self, line: RawLine) -> str:
        return f"{self._batch.batch}:{line.number}"

    def _record(self, place: int, parsed: ParsedLine, answer: Answer) -> None:
        number = self._lines[place].number
        self._results[place] = lines.encode(number, parsed.id, answer)
        self.counter.add(number, answer)
