"""The validator of a batch file: one pass that checks its lines and plans its chunks."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from batchd.domain.batches import Batch
from batchd.domain.jobs import EXPRESS_MAX_BYTES, Lane, Stage, lane_of
from batchd.domain.operations import HasChunkSize, Operation, ValidationIssue
from batchd.domain.ports import ObjectWriter
from batchd.domain.storage_keys import decompressed_key, require_input_key
from batchd.pipeline.context import PipelineContext, StageClaim
from batchd.pipeline.decompression import CorruptGzip, decompress
from batchd.pipeline.event_loop_yield import EventLoopYield
from batchd.pipeline.line_diagnosis import InvalidLine
from batchd.pipeline.line_parser import check
from batchd.pipeline.line_reader import LineSplitter, RawLine, split_lines
from batchd.pipeline.validate.chunk_planner import ChunkPlanner
from batchd.pipeline.validate.duplicate_ids import DuplicateIdFinder
from batchd.pipeline.validate.file_format import foreign_format, is_gzip, peek
from batchd.pipeline.validate.issues import (
    corrupt_gzip,
    file_issue,
    line_too_long,
    too_many_lines,
    unknown_operation,
)
from batchd.pipeline.validate.report import ValidationReport

logger = logging.getLogger(__name__)


class _AbortValidation(Exception):
    """No further line is checked after this issue."""

    def __init__(self, line: int, issue: ValidationIssue) -> None:
        super().__init__(issue.message)
        self.line = line
        self.issue = issue


class TooLargeForLane(Exception):
    """A batch that looked small is not; it has to be validated in another lane."""

    def __init__(self, size: int) -> None:
        super().__init__(f"at least {size} bytes were decompressed")
        self.size = size


class FileValidator:
    """Fills the report, the planner and the finder of duplicate ids."""

    def __init__(
        self,
        context: PipelineContext,
        batch: Batch,
        duplicate_ids: DuplicateIdFinder,
        report: ValidationReport,
    ) -> None:
        self._context = context
        self._batch = batch
        self._settings = context.settings
        self._duplicate_ids = duplicate_ids
        self._report = report
        self._stage_claim = StageClaim(context, batch)
        self._yield_control = EventLoopYield()
        self._is_small = lane_of(batch, Stage.VALIDATE) is Lane.EXPRESS
        self._line_number = 0
        self._logged_defects: set[type[Exception]] = set()
        self._operation = context.operations.find(batch.operation)
        self.planner = ChunkPlanner(
            max_lines=_chunk_lines(self._operation) or self._settings.chunk_lines,
            max_bytes=self._settings.chunk_bytes,
            max_chunks=self._settings.max_chunks,
        )
        self.size = 0
        """Bytes, after decompression."""
        self.decompressed = False

    async def run(self) -> None:
        """Validate the file. Raises TooLargeForLane as soon as that is known."""
        try:
            if self._operation is None:
                raise _AbortValidation(1, unknown_operation(self._batch.operation))
            if self._batch.input_problem is not None:
                raise _AbortValidation(1, file_issue(self._batch.input_problem))
            await self._check_lines(self._operation)
        except _AbortValidation as abort:
            self._report.add(abort.line, None, [abort.issue])
        except CorruptGzip as error:
            self._report.add(self._line_number + 1, None, [corrupt_gzip(error)])
        for _ in self._duplicate_ids.search():
            await self._stage_claim.check()
            await self._yield_control()

    async def _check_lines(self, operation: Operation) -> None:
        storage = self._context.storage
        async with AsyncExitStack() as stack:
            pieces = await stack.enter_async_context(storage.read(require_input_key(self._batch)))
            head, pieces = await peek(pieces)
            self.decompressed = is_gzip(head)
            if self.decompressed:
                # Chunks are byte ranges, and a range of compressed data can't be read by itself.
                key = decompressed_key(self._batch)
                writer = await stack.enter_async_context(storage.write(key))
                pieces = _write_through(self._limit_size(decompress(pieces)), writer)
                head, pieces = await peek(pieces)
            else:
                pieces = self._limit_size(pieces)
            if issue := foreign_format(head):
                raise _AbortValidation(1, issue)
            splitter = LineSplitter(max_line_bytes=self._settings.max_line_bytes)
            async for lines in split_lines(pieces, splitter):
                await self._stage_claim.check()
                for line in lines:
                    await self._yield_control()
                    self._line_number = line.number
                    self._limit_blank_lines(line.number)
                    self._limit_lines(line)
                    self._check_line(line, operation)
                self._line_number = splitter.next_number - 1
                self._limit_blank_lines(splitter.next_number)

    async def _limit_size(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            await self._stage_claim.check()
            await self._yield_control()
            self.size += len(piece)
            if self._is_small and self.size > EXPRESS_MAX_BYTES:
                raise TooLargeForLane(self.size)
            if self.size > self._settings.max_file_bytes:
                raise _AbortValidation(self._line_number + 1, file_issue("quota_violation"))
            yield piece

    def _limit_lines(self, line: RawLine) -> None:
        if self.planner.lines >= self._settings.max_lines:
            raise _AbortValidation(line.number, too_many_lines(self._settings.max_lines))

    def _limit_blank_lines(self, next_number: int) -> None:
        """Abort at the first blank line over the limit, which applies to them separately.

        Those over it are the last lines before this one: the check follows each line with content.
        """
        limit = self._settings.max_lines
        excess = next_number - 1 - self.planner.lines - limit
        if excess > 0:
            raise _AbortValidation(next_number - excess, too_many_lines(limit))

    def _check_line(self, line: RawLine, operation: Operation) -> None:
        self.planner.add(line)
        line_id = None
        try:
            if line.data is None:
                raise InvalidLine([line_too_long(self._settings.max_line_bytes)])
            line_id = check(operation, line.data, number=line.number).id
        except InvalidLine as invalid:
            line_id = invalid.id
            if invalid.defect is not None:
                self._log_defect(line, invalid.defect)
            self._report.add(line.number, invalid.id, invalid.issues)
        if line_id is not None:
            self._duplicate_ids.add(line.number, line_id)

    def _log_defect(self, line: RawLine, defect: Exception) -> None:
        """Log the first exception of each type: every line of a file may raise one."""
        if type(defect) not in self._logged_defects:
            self._logged_defects.add(type(defect))
            logger.error(
                "operation %s could not check line %d of batch %s",
                self._batch.operation,
                line.number,
                self._batch.batch,
                exc_info=defect,
            )


def _chunk_lines(operation: Operation | None) -> int | None:
    return operation.chunk_lines if isinstance(operation, HasChunkSize) else None


async def _write_through(
    pieces: AsyncIterator[bytes], writer: ObjectWriter
) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if piece:
            await writer.write(piece)
        yield piece
