"""What becomes of work that fails again and again: its batch goes on, and tells what is missing."""

from typing import assert_never

from batchd.domain.jobs import Job, Stage
from batchd.pipeline.cancel import cancel
from batchd.pipeline.chunks.runner import run_chunk
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.copy import give_up_copy
from batchd.pipeline.results import write_results
from batchd.pipeline.validate.stage import give_up_validation


async def give_up(context: PipelineContext, job: Job) -> None:
    """End the job's stage in the way that is left. May fail as well: then it is tried again."""
    match job.stage:
        case Stage.COPY:
            await give_up_copy(context, job.batch)
        case Stage.VALIDATE:
            await give_up_validation(context, job.batch)
        case Stage.CHUNK:
            await run_chunk(context, job.batch, job.chunk or 0, hopeless=True)
        case Stage.RESULTS:
            await write_results(context, job.batch, salvage=True)
        case Stage.CANCEL:
            await cancel(context, job.batch, salvage=True)
        case Stage.DELETE | Stage.TIDY:
            raise RuntimeError(f"{job.key}: files that can't be deleted are not forgotten")
        case _:
            assert_never(job.stage)
