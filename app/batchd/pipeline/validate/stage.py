"""copied → validating → processing or validation_failed: every line is checked before any runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import chain

from msgspec.structs import replace

from batchd.db import batches, chunks
from batchd.domain.batches import Batch, Status
from batchd.domain.errors import General
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.operations import HasChunkSize, Operation, ValidationIssue
from batchd.domain.ports import ObjectWriter
from batchd.domain.storage_keys import input_of, report_key, unpacked_key
from batchd.pipeline.context import PipelineContext, StageClaim, advance, begin, tidy
from batchd.pipeline.line_parser import BadLine, check
from batchd.pipeline.line_reader import CorruptGzip, RawLine, Splitter, sniff, split, unpack
from batchd.pipeline.validate.chunk_plan import Plan
from batchd.pipeline.validate.duplicate_ids import Ids
from batchd.pipeline.validate.report import Report
from batchd.queue import jobs

_BREATH = 100
"""Lines after which others get a turn: a piece of the file can hold ten thousands."""


async def validate(context: PipelineContext, batch_id: BatchId) -> None:
    """Check every line and cut the file into chunks, or write the report of what is wrong."""
    batch = await begin(context, batch_id, Status.VALIDATING)
    if batch is None:
        return
    with Ids() as ids, Report() as report:
        scan = _Scan(context, batch, ids, report)
        await scan.run()
        repeated = ids.repeated()
        # Walks through all ids: seconds, for millions.
        first = await asyncio.to_thread(next, repeated, None)
        if report.lines or first is not None:
            everything = report.read(chain([first] if first else [], repeated))
            await _fail(context, batch, everything)
        else:
            await _go_on(context, batch, scan)


async def give_up_validation(context: PipelineContext, batch_id: BatchId) -> None:
    """End with a report that says no more than that the file could not be read."""
    batch = await begin(context, batch_id, Status.VALIDATING)
    if batch is not None:
        with Report() as report:
            report.add(1, None, [_whole_file(General.name)])
            await _fail(context, batch, report.read(()))


class _Stop(Exception):
    """Nothing after this line is looked at."""

    def __init__(self, line: int, problem: ValidationIssue) -> None:
        super().__init__(problem.message)
        self.line = line
        self.problem = problem


class _Scan:
    """One walk through the file."""

    def __init__(self, context: PipelineContext, batch: Batch, ids: Ids, report: Report) -> None:
        self._context = context
        self._batch = batch
        self._settings = context.settings
        self._ids = ids
        self._report = report
        self._hold = StageClaim(context, batch)
        self.size = 0
        self._line = 0
        self._operation = context.operations.find(batch.operation)
        self.plan = Plan(
            max_lines=_chunk_lines(self._operation) or self._settings.chunk_lines,
            max_bytes=self._settings.chunk_bytes,
        )
        self.unpacked = False

    async def run(self) -> None:
        """Fill the plan, the ids and the report."""
        try:
            if self._operation is None:
                raise _Stop(1, _no_operation(self._batch.operation))
            if self._batch.input_problem is not None:
                raise _Stop(1, _whole_file(self._batch.input_problem))
            await self._scan(self._operation)
        except _Stop as stop:
            self._report.add(stop.line, None, [stop.problem])
        except CorruptGzip as error:
            problem = ValidationIssue(
                code="request_format", pointer="", message=f"The gzip data is damaged: {error}."
            )
            self._report.add(self._line + 1, None, [problem])

    async def _scan(self, operation: Operation) -> None:
        storage = self._context.storage
        async with AsyncExitStack() as stack:
            pieces = await stack.enter_async_context(storage.read(input_of(self._batch)))
            self.unpacked, pieces = await sniff(pieces)
            if self.unpacked:
                # Chunks are byte ranges, and compressed bytes have none that could be read alone.
                writer = await stack.enter_async_context(storage.write(unpacked_key(self._batch)))
                pieces = _written(unpack(pieces), writer)
            splitter = Splitter(max_line_bytes=self._settings.max_line_bytes)
            async for lines in split(self._counted(pieces), splitter):
                await self._hold.check()
                for line in lines:
                    if line.number % _BREATH == 0:
                        await asyncio.sleep(0)
                    self._line = line.number
                    self._count(line)
                    if not line.blank:
                        self._look_at(line, operation)

    async def _counted(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.size += len(piece)
            if self.size > self._settings.max_file_bytes:
                raise _Stop(self._line + 1, _whole_file("quota_violation"))
            yield piece

    def _count(self, line: RawLine) -> None:
        """Stop at a line too many; blank ones do not run, but there may be no more of them."""
        blank = line.number - 1 - self.plan.lines
        at_most = self._settings.max_lines
        if (blank if line.blank else self.plan.lines) >= at_most:
            message = (
                f"A batch has at most {at_most} lines, and as many blank ones. Split the file."
            )
            raise _Stop(
                line.number, ValidationIssue(code="quota_violation", pointer="", message=message)
            )

    def _look_at(self, line: RawLine, operation: Operation) -> None:
        self.plan.add(line)
        line_id = None
        try:
            if line.data is None:
                raise BadLine([_too_long(self._settings.max_line_bytes)])
            line_id = check(operation, line.data, number=line.number).id
        except BadLine as bad:
            line_id = bad.id
            self._report.add(line.number, bad.id, bad.problems)
        if line_id is not None:
            self._ids.add(line.number, line_id)


def _chunk_lines(operation: Operation | None) -> int | None:
    return operation.chunk_lines if isinstance(operation, HasChunkSize) else None


async def _written(pieces: AsyncIterator[bytes], writer: ObjectWriter) -> AsyncIterator[bytes]:
    async for piece in pieces:
        await writer.write(piece)
        yield piece


def _too_long(at_most: int) -> ValidationIssue:
    message = f"The line is longer than the {at_most} bytes that are taken."
    return ValidationIssue(code="quota_violation", pointer="", message=message)


def _no_operation(name: str) -> ValidationIssue:
    message = f"The operation '{name}' can no longer be run in batches."
    return ValidationIssue(code="operation_not_allowed", pointer="", message=message)


def _whole_file(code: str) -> ValidationIssue:
    message = {
        "not_found": "The uploaded file was gone before it could be copied. Upload it again.",
        "quota_violation": "The file is larger than is taken. Split it.",
        General.name: "The file could not be read because of a defect of the service.",
    }[code]
    return ValidationIssue(code=code, pointer="", message=message)


async def _fail(context: PipelineContext, batch: Batch, report: Iterator[bytes]) -> None:
    key = report_key(batch)
    async with context.storage.write(key) as writer:
        for line in report:
            await writer.write(line)
    ended = Status.VALIDATION_FAILED
    async with advance(context, batch, ended, or_remove=key) as (connection, failed):
        await batches.set_download(connection, batch.batch, key)
        await jobs.enqueue(connection, failed, [Job(Stage.TIDY, batch.batch)])
        await batches.set_input(connection, batch.batch, key=None)
    await tidy(context, batch, keep=key)


async def _go_on(context: PipelineContext, batch: Batch, scan: _Scan) -> None:
    plan, unpacked = scan.plan, scan.unpacked
    planned = plan.chunks()
    key, begun = unpacked_key(batch), Status.PROCESSING
    async with advance(context, batch, begun, or_remove=key) as (connection, processing):
        await batches.set_lines(connection, batch.batch, plan.lines, size=scan.size)
        if unpacked:
            await batches.set_input(connection, batch.batch, key=key)
        await chunks.insert(connection, batch.batch, planned)
        running = replace(processing, input_size=scan.size)
        await jobs.enqueue(
            connection,
            running,
            [Job(Stage.CHUNK, batch.batch, chunk.no) for chunk in planned],
            costs=[chunk.lines for chunk in planned],
        )
        if not planned:
            # Nothing to run: there will be no last chunk to say that all are done.
            await batches.move(connection, batch.batch, Status.PROCESSED, now=context.clock.now())
            await jobs.enqueue(connection, running, [Job(Stage.RESULTS, batch.batch)])
    if unpacked and batch.input_key is not None:
        await context.storage.delete([batch.input_key])
