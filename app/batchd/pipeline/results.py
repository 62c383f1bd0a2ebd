"""processed → writing_results → completed: assembles the results of the chunks into one file."""

import hashlib
import logging
from dataclasses import replace

from batchd.db import batches, chunks
from batchd.domain.batches import (
    Batch,
    LineCounts,
    ResultsFile,
    Status,
)
from batchd.domain.chunks import NO_PART, Chunk
from batchd.domain.errors import General
from batchd.domain.ids import BatchId
from batchd.domain.operations import OperationResult
from batchd.domain.ports import ObjectWriter
from batchd.domain.storage_keys import results_key
from batchd.observability import logs
from batchd.pipeline import result_lines
from batchd.pipeline.chunks.checkpoint import finished_numbers, merge_finished
from batchd.pipeline.chunks.stored_parts import with_stored_parts
from batchd.pipeline.context import PipelineContext, StageClaim, advance, claim
from batchd.pipeline.delete import bury_files
from batchd.pipeline.failures import FailureKind
from batchd.pipeline.missing_results import LineIdentifier, is_part_complete

logger = logging.getLogger(__name__)


async def write_results(
    context: PipelineContext,
    batch_id: BatchId,
    *,
    allow_missing_parts: bool = False,
    read_copy: bool = True,
) -> None:
    """Write the results file of a batch whose lines have all been run."""
    batch = await claim(context, batch_id, Status.WRITING_RESULTS)
    if batch is not None:
        await assemble_results(
            context,
            batch,
            end=Status.COMPLETED,
            allow_missing_parts=allow_missing_parts,
            read_copy=read_copy,
        )


async def assemble_results(
    context: PipelineContext,
    batch: Batch,
    *,
    end: Status,
    allow_missing_parts: bool = False,
    read_copy: bool = True,
) -> None:
    """Write one line for each validated line, in file order, and end the batch.

    Lines that were not run are written as cancelled. Raises ValueError if lines are missing, and
    ObjectMissing if a part is missing, unless `allow_missing_parts`: then its lines are failed.
    The copy, which contains the ids of such lines, is not required.
    """
    async with context.database.connection() as connection:
        batch_chunks = await chunks.find_all(connection, batch.batch)
    if batch.input_key is not None:
        batch_chunks = await with_stored_parts(context, batch, batch_chunks)
    key = results_key(batch)
    identifier = LineIdentifier(
        context, batch, read_copy=read_copy, allow_failures=allow_missing_parts
    )
    expected_bytes = sum(chunk.part_size for chunk in batch_chunks)
    async with context.storage.write(key, expected_bytes=expected_bytes) as writer, identifier:
        file = _ResultsWriter(
            context, batch, writer, identifier, allow_missing_parts=allow_missing_parts
        )
        for chunk in batch_chunks:
            await file.add(chunk)
        if not file.lines == batch.lines == file.counts.done:
            raise ValueError(
                f"batch {batch.batch} has {batch.lines} lines, but {file.lines} results "
                f"and {file.counts.done} counted outcomes"
            )
    async with advance(context, batch, end, output_key=key) as (connection, ended):
        await batches.set_results(
            connection, batch.batch, key=key, results=file.results(), counts=file.counts
        )
        await batches.set_input(connection, batch.batch, key=None)
        await chunks.delete(connection, batch.batch)
        await bury_files(context, connection, ended)


class _ResultsWriter:
    """Writes the results file chunk by chunk, and its size, digest and line counts."""

    def __init__(
        self,
        context: PipelineContext,
        batch: Batch,
        writer: ObjectWriter,
        identifier: LineIdentifier,
        *,
        allow_missing_parts: bool,
    ) -> None:
        self._context = context
        self._batch = batch
        self._writer = writer
        self._allow_missing_parts = allow_missing_parts
        self._identifier = identifier
        self._stage_claim = StageClaim(context, batch)
        self._digest = hashlib.sha256()
        self._size = 0
        self.lines = 0
        self.counts = LineCounts()

    def results(self) -> ResultsFile:
        return ResultsFile(size=self._size, lines=self.lines, sha256=self._digest.hexdigest())

    async def add(self, chunk: Chunk) -> None:
        if chunk.part_key is None:
            await self._add_unfinished(chunk, result_lines.CANCELLED)
        elif chunk.part_key == NO_PART:
            await self._add_failed(
                chunk, "The line could not be run: every worker that tried has failed."
            )
        elif self._allow_missing_parts and not await is_part_complete(self._context, chunk):
            await self._add_failed(
                chunk, "The line was run, but its result was lost in the storage."
            )
        else:
            await self._add_part(chunk.part_key, chunk.part_size)
            self.counts = self.counts.plus(chunk.counts)

    async def _add_part(self, key: str, size: int) -> None:
        async with self._context.storage.read(key) as pieces:
            # A large part is copied inside the storage, and read here only for the digest.
            copied = await self._writer.append(key, size)
            async for piece in pieces:
                await self._append(piece, already_written=copied)

    async def _add_failed(self, chunk: Chunk, description: str) -> None:
        """Write the lines of a chunk without a part as failed, so that the batch can end."""
        logs.clear_trace()
        result = result_lines.failed_result(
            General(description),
            line_key=f"{self._batch.batch}:{chunk.first_line}",
            help_base=self._context.settings.help_url,
        )
        await self._add_unfinished(chunk, result)

    async def _add_unfinished(self, chunk: Chunk, result: OperationResult | None) -> None:
        """Write the lines of a checkpoint as they are, and this result for the others."""
        finished = await self._finished_numbers(chunk)
        if not finished:
            chunk = replace(chunk, checkpoint_key=None)
        lines = await self._identifier.identify(chunk)
        unfinished = [line for line in lines if line[0] not in finished]
        counter = result_lines.OutcomeCounter()
        # Numbers computed from the row count blank lines, so there may be too many.
        del unfinished[chunk.lines - len(finished) :]
        async for block in merge_finished(self._context, chunk, unfinished, result, counter):
            await self._append(block)
        self.counts = self.counts.plus(counter.counts())

    async def _finished_numbers(self, chunk: Chunk) -> frozenset[int]:
        try:
            return await finished_numbers(self._context, chunk)
        except Exception as error:
            if (
                not self._allow_missing_parts
                or await self._context.breaker.judge(error) is FailureKind.OUTAGE
            ):
                raise
            logger.warning("%s can't be read: %r", chunk.checkpoint_key, error)
            return frozenset()

    async def _append(self, piece: bytes, *, already_written: bool = False) -> None:
        await self._stage_claim.check()
        self._digest.update(piece)
        self._size += len(piece)
        self.lines += piece.count(b"\n")
        if not already_written:
            await self._writer.write(piece)
