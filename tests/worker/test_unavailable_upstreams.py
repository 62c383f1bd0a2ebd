"""A chunk whose upstream is unavailable is released with what is finished, and runs again later."""

import asyncio

import pytest

from batchd.bootstrap import Components
from batchd.domain.jobs import Stage
from batchd.domain.operations import UpstreamUnavailable
from batchd.queue.engine import RetryLater
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.stepping import TO_PROCESSING, step

LINES = 6
FINISHED = 2
_REASON = "SELECT reason FROM troubles WHERE job = $1"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"line_concurrency": FINISHED})


@pytest.fixture
async def waiting(caller: ApiCaller, components: Components, gated: GatedOperation) -> str:
    """Return a batch whose upstream became unavailable while its first two lines were running."""
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    chunk = asyncio.create_task(step(components, batch, Stage.CHUNK))
    await gated.wait_started(FINISHED)
    gated.unavailable = UpstreamUnavailable("nobody answers", retry_after_s=7)
    gated.release(FINISHED)
    with pytest.raises(RetryLater) as raised:
        await chunk
    assert raised.value.delay_s == 7
    return batch


async def test_only_the_other_lines_are_run_when_the_upstream_answers_again(
    caller: ApiCaller, components: Components, gated: GatedOperation, waiting: str
) -> None:
    gated.unavailable = None
    gated.release(LINES)
    await step(components, waiting, Stage.CHUNK, Stage.RESULTS)
    results = await caller.download(waiting)
    assert [(line["line"], line["status"]) for line in results] == [
        (number, 200) for number in range(1, LINES + 1)
    ]
    assert sorted(gated.finished) == list(range(1, LINES + 1))


async def test_the_batch_is_still_processing_and_its_reason_is_recorded(
    caller: ApiCaller, components: Components, waiting: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await caller.status(waiting) == "processing"
    async with components.database.connection() as connection:
        reason = await connection.fetchval(_REASON, f"chunk:{waiting}:0")
    assert reason == "UpstreamUnavailable: nobody answers"
    await components.dispatcher.supervise()
    assert f"batch {waiting} is stuck in processing: chunk:{waiting}:0, 1 failure" in caplog.text


async def test_however_often_it_waits_the_chunk_is_not_poisoned(
    caller: ApiCaller, components: Components, gated: GatedOperation, waiting: str
) -> None:
    for _ in range(20):
        with pytest.raises(RetryLater):
            await step(components, waiting, Stage.CHUNK)
    gated.unavailable = None
    gated.release(LINES)
    await step(components, waiting, Stage.CHUNK, Stage.RESULTS)
    assert [line["status"] for line in await caller.download(waiting)] == [200] * LINES


async def test_another_line_is_tried_first_each_time(
    components: Components, gated: GatedOperation, waiting: str
) -> None:
    with pytest.raises(RetryLater):
        await step(components, waiting, Stage.CHUNK)
    gated.started.clear()
    gated.unavailable = None
    chunk = asyncio.create_task(step(components, waiting, Stage.CHUNK))
    await gated.wait_started(FINISHED)
    # Of the lines 3 to 6, after two releases.
    assert gated.started == [5, 6]
    gated.release(LINES)
    await chunk


async def test_a_waiting_batch_is_cancelled_at_once_and_keeps_what_is_finished(
    caller: ApiCaller, components: Components, waiting: str
) -> None:
    reply = await caller.call("PATCH", f"/batches/{waiting}", json={"status": "cancel"})
    assert reply.status == 200
    await step(components, waiting, Stage.CANCEL)
    assert await caller.status(waiting) == "cancelled"
    outcomes = [line["outcome"] for line in await caller.download(waiting)]
    assert outcomes == ["succeeded"] * FINISHED + ["cancelled"] * (LINES - FINISHED)
