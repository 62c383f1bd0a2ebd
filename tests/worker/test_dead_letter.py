"""Jobs that keep failing are reported and dead-lettered, so that every batch ends."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.pipeline.chunks.line_runner import LineRunner
from batchd.pipeline.dispatcher import MAX_DEFECTS, MAX_LONE_OUTAGES, MAX_TIME_LIMITS
from batchd.plugins.s3.storage import S3Storage
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.stepping import TO_COPIED, TO_PROCESSED, TO_PROCESSING, step

pytestmark = pytest.mark.slow

LINES = 5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": LINES})


@contextmanager
def reading_fails(patch: pytest.MonkeyPatch, error: Exception) -> Iterator[None]:
    """Let every read of the storage fail while the block runs."""

    def fail(*_: object, **__: object) -> None:
        raise error

    with patch.context() as patched:
        patched.setattr(S3Storage, "read", fail)
        yield


async def fail_until_last_attempt(components: Components, batch: str, stage: Stage) -> None:
    """Let the stage fail until the next failure dead-letters its job."""
    for _ in range(MAX_DEFECTS - 1):
        with pytest.raises(Exception, match="a defect"):
            await step(components, batch, stage)


async def report(caller: ApiCaller, batch: str) -> tuple[int, list[str]]:
    """Return the line number and the codes of the only entry in the validation report."""
    (line,) = await caller.download(batch)
    return line["line"], [error["code"] for error in line["errors"]]


async def test_file_that_cannot_be_copied_ends_the_batch_with_a_report(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    with reading_fails(monkeypatch, ValueError("a defect")):
        await fail_until_last_attempt(components, batch, Stage.COPY)
        assert await caller.status(batch) == "copying"
        await step(components, batch, Stage.COPY)
    await step(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "validation_failed"
    assert await report(caller, batch) == (1, ["general"])


async def test_file_that_cannot_be_validated_ends_the_batch_with_a_report(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_COPIED)
    with reading_fails(monkeypatch, ValueError("a defect")):
        await fail_until_last_attempt(components, batch, Stage.VALIDATE)
        await step(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "validation_failed"
    assert await report(caller, batch) == (1, ["general"])


async def test_lines_of_a_chunk_that_keeps_failing_fail_without_the_others(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gated.release(100)
    batch = await caller.create(numbered_lines(2 * LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    with monkeypatch.context() as patched:
        patched.setattr(LineRunner, "run", _raise_defect)
        await fail_until_last_attempt(components, batch, Stage.CHUNK)
        await step(components, batch, Stage.CHUNK)
    await components.dispatcher.handle(Job(Stage.CHUNK, BatchId(UUID(batch)), 1))
    await step(components, batch, Stage.RESULTS)
    results = await caller.download(batch)
    assert [line["line"] for line in results] == list(range(1, 2 * LINES + 1))
    assert [line["status"] for line in results] == [500] * LINES + [200] * LINES


def _raise_defect(*_: object, **__: object) -> None:
    raise ValueError("a defect")


async def test_lines_of_a_missing_part_are_failed(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    gated.release(2 * LINES)
    batch = await caller.create(numbered_lines(2 * LINES), "gated")
    await step(components, batch, *TO_PROCESSED)
    await components.dispatcher.handle(Job(Stage.CHUNK, BatchId(UUID(batch)), 1))
    storage = components.dispatcher._context.storage
    prefix = f"batches/{caller.user.user.account}/{batch}/parts/0."
    (key,) = [key async for key in storage.list_keys(prefix)]
    await storage.delete([key])
    for _ in range(MAX_DEFECTS - 1):
        with pytest.raises(Exception, match=re.escape(key)):
            await step(components, batch, Stage.RESULTS)
    assert await caller.status(batch) == "writing_results"
    await step(components, batch, Stage.RESULTS)
    assert await caller.status(batch) == "completed"
    results = await caller.download(batch)
    assert [(line["line"], line["id"]) for line in results] == [
        (n, f"n{n}") for n in range(1, 2 * LINES + 1)
    ]
    assert [line["status"] for line in results] == [500] * LINES + [200] * LINES
    body = (await caller.get(f"/batches/{batch}?expand=progress,errors")).body
    assert (body["progress"]["succeeded"], body["progress"]["failed"]) == (LINES, LINES)
    assert body["errors"] == {"500": {"count": LINES, "lines": [1, 2, 3, 4, 5]}}


async def test_job_is_retried_throughout_an_outage_which_the_supervisor_reports(
    caller: ApiCaller,
    components: Components,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    with reading_fails(monkeypatch, ProcessingTimeout("The storage is not responding.")):
        for _ in range(2 * MAX_DEFECTS):
            with pytest.raises(ProcessingTimeout):
                await step(components, batch, Stage.COPY)
    with caplog.at_level(logging.WARNING, logger="batchd"):
        await components.dispatcher.supervise()
    (message,) = [record.getMessage() for record in caplog.records if batch in record.getMessage()]
    assert f"batch {batch} is stuck in copying: copy:{batch}, {2 * MAX_DEFECTS} failures" in message
    assert "The storage is not responding." in message
    await step(components, batch, *TO_PROCESSING)
    assert await caller.status(batch) == "processing"


async def test_time_limits_are_counted_but_allow_for_an_overload(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    too_slow = ProcessingTimeout("The database took too long.", is_outage=False)
    with reading_fails(monkeypatch, too_slow):
        for _ in range(MAX_TIME_LIMITS - 1):
            with pytest.raises(ProcessingTimeout):
                await step(components, batch, Stage.COPY)
        await step(components, batch, Stage.COPY)
    await step(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "validation_failed"


async def test_file_that_alone_cannot_be_read_ends_the_batch(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the storage has lost a part of it: it answers 500, but for no other file."""
    batch = await caller.create(numbered_lines(LINES), "gated")
    read = S3Storage.read

    def fail_for_uploads(storage: S3Storage, key: str, **options: Any) -> Any:
        if key.startswith("uploads/"):
            raise ProcessingTimeout("The storage is not responding.")
        return read(storage, key, **options)

    monkeypatch.setattr(S3Storage, "read", fail_for_uploads)
    for _ in range(MAX_LONE_OUTAGES - 1):
        with pytest.raises(ProcessingTimeout):
            await step(components, batch, Stage.COPY)
    assert await caller.status(batch) == "copying"
    await step(components, batch, Stage.COPY, Stage.VALIDATE)
    assert await caller.status(batch) == "validation_failed"


async def test_outages_and_time_limits_are_counted_apart(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    outage = ProcessingTimeout("The storage is not responding.")
    too_slow = ProcessingTimeout("The database took too long.", is_outage=False)
    for error in (outage, too_slow, outage):
        with reading_fails(monkeypatch, error):
            for _ in range(MAX_TIME_LIMITS - 1):
                with pytest.raises(ProcessingTimeout):
                    await step(components, batch, Stage.COPY)
    await step(components, batch, *TO_PROCESSING)
    assert await caller.status(batch) == "processing"


async def test_released_chunk_is_not_dead_lettered(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No matter how often workers are restarted or the storage is unavailable."""
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    with reading_fails(monkeypatch, ProcessingTimeout("The storage is not responding.")):
        for _ in range(20):
            with pytest.raises(ProcessingTimeout):
                await step(components, batch, Stage.CHUNK)
    gated.release(LINES)
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    assert {line["outcome"] for line in await caller.download(batch)} == {"succeeded"}
