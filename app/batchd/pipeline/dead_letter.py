"""Dead letters: ends the stage of a job that keeps failing, and records what is missing."""

from typing import assert_never

from batchd.domain.jobs import Job, Stage
from batchd.pipeline.cancel import cancel
from batchd.pipeline.chunks.runner import run_chunk
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.copy import dead_letter_copy
from batchd.pipeline.results import write_results
from batchd.pipeline.validate.stage import dead_letter_validation


async def dead_letter(context: PipelineContext, job: Job) -> None:
    """End the job's stage as cleanly as possible. If this fails too, it is retried."""
    match job.stage:
        case Stage.COPY:
            await dead_letter_copy(context, job.batch)
        case Stage.VALIDATE:
            await dead_letter_validation(context, job.batch)
        case Stage.CHUNK:
            await run_chunk(context, job.batch, job.chunk or 0, poisoned=True)
        case Stage.RESULTS:
            await write_results(context, job.batch, allow_missing_parts=True)
        case Stage.CANCEL:
            await cancel(context, job.batch, allow_missing_parts=True)
        case Stage.DELETE | Stage.CLEANUP:
            raise RuntimeError(f"job {job.key} is retried until its files are deleted")
        case _:
            assert_never(job.stage)
