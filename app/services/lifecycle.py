"""Takes batches through their life: the one door from a job to the stage it asks for."""

import logging
from typing import assert_never

from batchd.db.jobs import Job, Stage
from batchd.services.stages.cancelling import cancel
from batchd.services.stages.context import Context, Superseded
from batchd.services.stages.copying import copy
from batchd.services.stages.removing import remove
from batchd.services.stages.running import run_chunk
from batchd.services.stages.sweeping import sweep
from batchd.services.stages.validating import validate
from batchd.services.stages.writing import write_results
from batchd.services.uploads import Uploads

logger = logging.getLogger(__name__)


class Lifecycle:
    def __init__(self, context: Context, uploads: Uploads) -> None:
        self._context = context
        self._uploads = uploads

    async def handle(self, job: Job) -> None:
        """Do what the job asks for. An exception means: try again later, nothing is lost."""
        try:
            await self._handle(job)
        except Superseded as reason:
            logger.info("%s ends early: %s", job.key, reason)

    async def sweep(self) -> None:
        """Find work that nobody is at, and put it back into the queue."""
        await sweep(self._context, self._uploads)

    async def _handle(self, job: Job) -> None:
        match job.stage:
            case Stage.COPY:
                await copy(self._context, job.batch)
            case Stage.VALIDATE:
                await validate(self._context, job.batch)
            case Stage.CHUNK:
                await run_chunk(self._context, job.batch, job.chunk or 0)
            case Stage.RESULTS:
                await write_results(self._context, job.batch)
            case Stage.CANCEL:
                await cancel(self._context, job.batch)
            case Stage.DELETE:
                await remove(self._context, job.batch)
            case _:
                assert_never(job.stage)
