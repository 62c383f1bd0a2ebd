"""A batch is in the lane of small ones if its content is small, compressed or not."""

import gzip
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from batchd.bootstrap import Components
from batchd.domain.jobs import EXPRESS_MAX_BYTES, Lane, Stage
from batchd.queue.engine import RetryLater
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation
from tests.support.stepping import TO_COPIED, step

pytestmark = pytest.mark.slow

RunWorker = Callable[[], AbstractAsyncContextManager[None]]

LINE = b'{"path": {"n": 1}}\n'


def compressed(size: int) -> bytes:
    """Return a small file that has so many bytes when it is decompressed."""
    lines = LINE * (size // len(LINE))
    return gzip.compress(lines + b" " * (size - len(lines)))


async def lane(components: Components, batch: str, stage: Stage) -> str:
    async with components.database.connection() as connection:
        query = "SELECT entrypoint FROM pgqueuer WHERE dedupe_key LIKE $1 LIMIT 1"
        return str(await connection.fetchval(query, f"{stage}:{batch}%"))


async def test_file_with_a_large_content_leaves_the_lane_of_small_batches(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(compressed(EXPRESS_MAX_BYTES + 1), "gated")
    await step(components, batch, *TO_COPIED)
    assert await lane(components, batch, Stage.VALIDATE) == Lane.EXPRESS
    with pytest.raises(RetryLater):
        await step(components, batch, Stage.VALIDATE)
    assert await lane(components, batch, Stage.VALIDATE) == Lane.STAGES
    await step(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "processing"
    assert await lane(components, batch, Stage.CHUNK) == Lane.CHUNKS


async def test_file_with_a_small_content_stays_in_it(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(compressed(EXPRESS_MAX_BYTES), "gated")
    await step(components, batch, *TO_COPIED, Stage.VALIDATE)
    assert await caller.status(batch) == "processing"
    assert await lane(components, batch, Stage.CHUNK) == Lane.EXPRESS


async def test_batch_that_changed_lanes_completes(
    caller: ApiCaller, worker: RunWorker, gated: GatedOperation
) -> None:
    lines = EXPRESS_MAX_BYTES // len(LINE) + 1
    async with worker():
        batch = await caller.create(gzip.compress(LINE * lines), "gated")
        gated.release(lines)
        assert await caller.end(batch) == "completed"
