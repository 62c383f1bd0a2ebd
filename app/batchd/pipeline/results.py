"""processed → writing_results → completed: the results of the chunks become one file."""

import hashlib

from batchd.db import batches, chunks
from batchd.domain.batches import (
    MAX_SAMPLE_LINES,
    Batch,
    ErrorCount,
    LineCounts,
    ResultsFile,
    Status,
)
from batchd.domain.chunks import Chunk
from batchd.domain.errors import General
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.ports import ObjectMissing, ObjectWriter
from batchd.domain.storage_keys import results_key
from batchd.observability import logs
from batchd.pipeline import result_lines
from batchd.pipeline.chunks.reader import parse_valid, read_lines
from batchd.pipeline.context import PipelineContext, StageClaim, advance, begin, tidy
from batchd.queue import jobs


async def write_results(
    context: PipelineContext, batch_id: BatchId, *, salvage: bool = False
) -> None:
    """Write the results file of a batch whose lines have all been run."""
    batch = await begin(context, batch_id, Status.WRITING_RESULTS)
    if batch is not None:
        await assemble(context, batch, end=Status.COMPLETED, salvage=salvage)


async def assemble(
    context: PipelineContext, batch: Batch, *, end: Status, salvage: bool = False
) -> None:
    """Write one line for each line that was validated, in their order, and end the batch.

    Lines that were not run are written as cancelled. Raises ValueError when lines are missing,
    ObjectMissing when a chunk's results are gone; with `salvage` those are written as failed.
    """
    async with context.database.connection() as connection:
        planned = await chunks.find_all(connection, batch.batch)
    key = results_key(batch)
    async with context.storage.write(key) as writer:
        file = _ResultsFile(context, batch, writer, salvage=salvage)
        for chunk in planned:
            await file.add(chunk)
        if not file.lines == batch.lines == file.tally.done:
            raise ValueError(
                f"{file.lines} results and {file.tally.done} counted for {batch.lines} lines"
            )
    async with advance(context, batch, end, or_remove=key) as (connection, ended):
        await batches.set_results(
            connection, batch.batch, key=key, results=file.facts(), tally=file.tally
        )
        await batches.set_input(connection, batch.batch, key=None)
        await chunks.delete(connection, batch.batch)
        await jobs.enqueue(connection, ended, [Job(Stage.TIDY, batch.batch)])
    await tidy(context, batch, keep=key)


class _ResultsFile:
    """The file as it grows, chunk by chunk."""

    def __init__(
        self, context: PipelineContext, batch: Batch, writer: ObjectWriter, *, salvage: bool
    ) -> None:
        self._context = context
        self._batch = batch
        self._writer = writer
        self._salvage = salvage
        self._hold = StageClaim(context, batch)
        self._digest = hashlib.sha256()
        self._size = 0
        self.lines = 0
        self.tally = LineCounts()

    def facts(self) -> ResultsFile:
        return ResultsFile(size=self._size, lines=self.lines, sha256=self._digest.hexdigest())

    async def add(self, chunk: Chunk) -> None:
        if chunk.part_key is None:
            await self._add_cancelled(chunk)
            return
        try:
            await self._add_part(chunk.part_key, chunk.part_size)
            self.tally = self.tally.plus(chunk.tally)
        except ObjectMissing:
            if not self._salvage:
                raise
            await self._add_lost(chunk)

    async def _add_part(self, key: str, size: int) -> None:
        async with self._context.storage.read(key) as pieces:
            # What is large goes from object to object inside the storage, and is read here only
            # for its digest.
            copied = await self._writer.append(key, size)
            async for piece in pieces:
                await self._take(piece, written=copied)

    async def _add_cancelled(self, chunk: Chunk) -> None:
        async for found in read_lines(self._context, self._batch, chunk):
            await self._take(
                b"".join(
                    result_lines.encode(line.number, parse_valid(line).id, result_lines.CANCELLED)
                    for line in found
                )
            )
        self.tally = self.tally.plus(LineCounts(cancelled=chunk.lines))

    async def _add_lost(self, chunk: Chunk) -> None:
        """Write the lines as failed: better than a batch that never ends."""
        logs.clear_trace()
        error = General("The line was run, but its result was lost in the storage.")
        answer = result_lines.failure(error, line=f"{self._batch.batch}:{chunk.first_line}")
        numbers: list[int] = []
        async for found in read_lines(self._context, self._batch, chunk):
            numbers += [line.number for line in found]
            await self._take(
                b"".join(
                    result_lines.encode(line.number, parse_valid(line).id, answer) for line in found
                )
            )
        samples = ErrorCount(count=len(numbers), lines=tuple(numbers[:MAX_SAMPLE_LINES]))
        self.tally = self.tally.plus(
            LineCounts(failed=len(numbers), errors={error.status: samples})
        )

    async def _take(self, piece: bytes, *, written: bool = False) -> None:
        await self._hold.check()
        self._digest.update(piece)
        self._size += len(piece)
        self.lines += piece.count(b"\n")
        if not written:
            await self._writer.write(piece)
