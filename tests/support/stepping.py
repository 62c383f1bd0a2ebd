"""Runs a batch stage by stage without a worker, so that a test can stop it in any status."""

from uuid import UUID

from batchd.bootstrap import Components
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from tests.support.callers import ApiCaller

TO_COPIED = (Stage.COPY,)
TO_PROCESSING = (Stage.COPY, Stage.VALIDATE)
TO_PROCESSED = (*TO_PROCESSING, Stage.CHUNK)
TO_THE_END = (*TO_PROCESSED, Stage.RESULTS)


async def step(components: Components, batch: str, *stages: Stage) -> None:
    """Run these stages like a worker; of the chunks, only the first."""
    for stage in stages:
        chunk = 0 if stage is Stage.CHUNK else None
        await components.dispatcher.handle(Job(stage, BatchId(UUID(batch)), chunk))


async def ended_batch(components: Components, owner: ApiCaller, lines: bytes, **more: str) -> str:
    """Return a batch whose lines have been run, or found invalid."""
    batch = await owner.create(lines, **more)
    await step(components, batch, *TO_THE_END)
    return batch


async def cancelled_batch(
    components: Components, owner: ApiCaller, lines: bytes, *to: Stage
) -> str:
    """Return a batch that was cancelled after these stages."""
    batch = await owner.create(lines)
    await step(components, batch, *to)
    reply = await owner.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    assert reply.status == 200, reply
    await step(components, batch, Stage.CANCEL)
    return batch
