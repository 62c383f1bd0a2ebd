"""copied → validating → processing or validation_failed: checks every line before any runs."""

from collections.abc import Iterable

from msgspec.structs import replace

from batchd.db import batch_failures, batches, chunks
from batchd.domain.batches import Batch, Status
from batchd.domain.errors import General
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.storage_keys import decompressed_key, report_key
from batchd.pipeline.context import ClaimLost, PipelineContext, StageClaim, advance, claim
from batchd.pipeline.delete import bury_files
from batchd.pipeline.event_loop_yield import EventLoopYield
from batchd.pipeline.validate.duplicate_ids import DuplicateIdFinder
from batchd.pipeline.validate.file_validator import FileValidator, TooLargeForLane
from batchd.pipeline.validate.issues import file_issue
from batchd.pipeline.validate.report import ValidationReport
from batchd.queue import jobs
from batchd.queue.engine import RetryLater


async def validate(context: PipelineContext, batch_id: BatchId) -> None:
    """Validate the file, and divide it into chunks or write the validation report."""
    batch = await claim(context, batch_id, Status.VALIDATING)
    if batch is None:
        return
    help_base = context.settings.help_url
    with DuplicateIdFinder() as duplicate_ids, ValidationReport(help_base=help_base) as report:
        validator = FileValidator(context, batch, duplicate_ids, report)
        try:
            await validator.run()
        except TooLargeForLane as error:
            await _change_lane(context, batch, size=error.size)
            raise RetryLater(0) from error
        if report.invalid_lines or duplicate_ids.count:
            await _end_invalid(context, batch, report, duplicate_ids.duplicates())
        else:
            await _start_processing(context, batch, validator)


async def _change_lane(context: PipelineContext, batch: Batch, *, size: int) -> None:
    """Move the job and its successors to the lane of a batch of this size. Raises ClaimLost."""
    async with context.database.transaction() as connection:
        resized = await batches.set_input_size(connection, batch, size=size)
        if resized is None:
            raise ClaimLost(f"batch {batch.batch} was cancelled, or claimed by another worker")
        await jobs.change_lane(connection, resized, Job(Stage.VALIDATE, batch.batch))


async def dead_letter_validation(context: PipelineContext, batch_id: BatchId) -> None:
    """End the batch with a report that states only that the file could not be read."""
    batch = await claim(context, batch_id, Status.VALIDATING)
    if batch is not None:
        with ValidationReport(help_base=context.settings.help_url) as report:
            report.add(1, None, [file_issue(General.name)])
            await _end_invalid(context, batch, report, ())


async def _end_invalid(
    context: PipelineContext,
    batch: Batch,
    report: ValidationReport,
    duplicate_ids: Iterable[tuple[int, str]],
) -> None:
    key = report_key(batch)
    stage_claim, yield_control = StageClaim(context, batch), EventLoopYield()
    async with context.storage.write(key) as writer:
        for line in report.encode(duplicate_ids):
            await stage_claim.check()
            await yield_control()
            if line:
                await writer.write(line)
    status = Status.VALIDATION_FAILED
    async with advance(context, batch, status, output_key=key) as (connection, ended):
        await batches.set_download(connection, batch.batch, key)
        await batch_failures.set_report_counts(connection, batch.batch, report.counts)
        await bury_files(context, connection, ended)
        await batches.set_input(connection, batch.batch, key=None)


async def _start_processing(
    context: PipelineContext, batch: Batch, validator: FileValidator
) -> None:
    planned_chunks = validator.planner.finish()
    key, status = decompressed_key(batch), Status.PROCESSING
    async with advance(context, batch, status, output_key=key) as (connection, processing):
        await batches.set_lines(
            connection, batch.batch, validator.planner.lines, size=validator.size
        )
        if validator.decompressed:
            await batches.set_input(connection, batch.batch, key=key)
        await chunks.insert(connection, batch.batch, planned_chunks)
        # The lane depends on the size after decompression.
        started = replace(processing, input_size=validator.size)
        await jobs.enqueue(
            connection,
            started,
            [Job(Stage.CHUNK, batch.batch, chunk.number) for chunk in planned_chunks],
            costs=[chunk.lines for chunk in planned_chunks],
        )
        if not planned_chunks:
            # There is no chunk whose completion could change the status.
            await batches.transition(
                connection, batch.batch, Status.PROCESSED, now=context.clock.now()
            )
            await jobs.enqueue(connection, started, [Job(Stage.RESULTS, batch.batch)])
