"""A storage that refuses calls does not keep a batch from ending, and its code is logged."""

from collections.abc import AsyncIterator, Mapping

import pytest
from aiohttp import web

from batchd.bootstrap import Components
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import StorageRefused
from batchd.domain.jobs import Stage
from batchd.pipeline.chunks import runner
from batchd.pipeline.chunks.runner import ResultsNotStored
from batchd.pipeline.dispatcher import MAX_DEAD_LETTER_ATTEMPTS, MAX_DEFECTS
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.refusals import assert_refused
from tests.support.refusing_s3 import RefusingS3, deletes, everything, refusing_s3, writes
from tests.support.stepping import TO_COPIED, TO_PROCESSED, TO_PROCESSING, step

pytestmark = pytest.mark.slow

LINES = 5


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": LINES})


@pytest.fixture
async def proxy(s3: SeaweedFS) -> AsyncIterator[RefusingS3]:
    async with refusing_s3(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def plugin_environment(
    plugin_environment: Mapping[str, str], proxy: RefusingS3
) -> Mapping[str, str]:
    return {**plugin_environment, "BATCHD_S3_ENDPOINT": proxy.url}


async def be_refused(components: Components, batch: str, stage: Stage, *, times: int) -> None:
    for _ in range(times):
        with pytest.raises(StorageRefused):
            await step(components, batch, stage)


async def reason(components: Components, batch: str) -> str:
    async with components.database.connection() as connection:
        text: str = await connection.fetchval("SELECT reason FROM troubles WHERE batch = $1", batch)
        return text


async def test_refused_copy_ends_with_a_report(
    caller: ApiCaller,
    components: Components,
    proxy: RefusingS3,
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = await caller.create(numbered_lines(LINES), "gated")
    proxy.refuse(writes, "MissingContentMD5", status=400)
    await be_refused(components, batch, Stage.COPY, times=MAX_DEFECTS - 1)
    assert "MissingContentMD5" in await reason(components, batch)
    await step(components, batch, Stage.COPY)
    assert f"job copy:{batch} is dead-lettered: StorageRefused: MissingContentMD5" in caplog.text
    proxy.accept()
    await step(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "validation_failed"
    (line,) = await caller.download(batch)
    assert [error["code"] for error in line["errors"]] == ["general"]


async def test_refused_report_ends_the_batch_without_one(
    caller: ApiCaller, components: Components, proxy: RefusingS3
) -> None:
    batch = await caller.create(b"no line\n", "gated")
    await step(components, batch, *TO_COPIED)
    proxy.refuse(writes, "AccessDenied")
    await be_refused(
        components, batch, Stage.VALIDATE, times=MAX_DEFECTS + MAX_DEAD_LETTER_ATTEMPTS - 1
    )
    await step(components, batch, Stage.VALIDATE)
    assert await caller.status(batch) == "validation_failed"
    assert "download" not in (await caller.get(f"/batches/{batch}?download=true")).body


async def test_results_that_are_refused_for_a_moment_are_kept(
    caller: ApiCaller, components: Components, proxy: RefusingS3, gated: GatedOperation
) -> None:
    """As while credentials are being changed."""

    def refuse_once(request: web.Request) -> bool:
        if writes_a_part(request):
            refused.append(request.path)
            return len(refused) == 1
        return False

    refused: list[str] = []
    gated.release(LINES)
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    proxy.refuse(refuse_once, "InvalidAccessKeyId")
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    assert [line["status"] for line in await caller.download(batch)] == [200] * LINES
    assert len(gated.started) == LINES


async def test_refused_part_fails_its_lines(
    caller: ApiCaller,
    components: Components,
    proxy: RefusingS3,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "_MAX_STORE_REFUSALS", 1)
    gated.release(LINES * MAX_DEFECTS)
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    proxy.refuse(writes, "InvalidAccessKeyId")
    await be_refused(components, batch, Stage.CHUNK, times=MAX_DEFECTS - 1)
    await step(components, batch, Stage.CHUNK)
    proxy.accept()
    await step(components, batch, Stage.RESULTS)
    assert await caller.status(batch) == "completed"
    assert [(line["id"], line["status"]) for line in await caller.download(batch)] == [
        (f"n{n}", 500) for n in range(1, LINES + 1)
    ]


def writes_a_part(request: web.Request) -> bool:
    return writes(request) and "/parts/" in request.path


async def test_part_that_alone_cannot_be_stored_fails_its_lines(
    caller: ApiCaller,
    components: Components,
    proxy: RefusingS3,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The storage answers 500, but takes what the worker's probe writes."""
    monkeypatch.setattr(runner, "_MAX_STORE_ATTEMPTS", 1)
    gated.release(LINES * MAX_DEFECTS)
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    proxy.refuse(writes_a_part, "InternalError", status=500)
    for _ in range(MAX_DEFECTS - 1):
        with pytest.raises(ResultsNotStored):
            await step(components, batch, Stage.CHUNK)
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    assert await caller.status(batch) == "completed"
    assert {line["status"] for line in await caller.download(batch)} == {500}


@pytest.mark.parametrize("stage", [Stage.RESULTS, Stage.CANCEL])
async def test_refused_results_end_the_batch_without_them(
    caller: ApiCaller,
    components: Components,
    proxy: RefusingS3,
    gated: GatedOperation,
    stage: Stage,
) -> None:
    lines = LINES if stage is Stage.RESULTS else 2 * LINES
    gated.release(LINES)
    batch = await caller.create(numbered_lines(lines), "gated")
    await step(components, batch, *TO_PROCESSED)
    if stage is Stage.CANCEL:
        await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    proxy.refuse(writes, "InvalidPart", status=400)
    await be_refused(components, batch, stage, times=MAX_DEFECTS + MAX_DEAD_LETTER_ATTEMPTS - 1)
    await step(components, batch, stage)
    body = (await caller.get(f"/batches/{batch}?download=true&expand=progress,results")).body
    assert body["status"] == "cancelled"
    assert "download" not in body
    assert body["results"] is None
    assert body["progress"] == {
        "total": lines,
        "succeeded": LINES,
        "failed": 0,
        "cancelled": lines - LINES,
        "remaining": 0,
    }


async def test_refused_cleanup_leaves_the_files_and_is_logged(
    caller: ApiCaller,
    components: Components,
    proxy: RefusingS3,
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = await caller.create(b"", "gated")
    await step(components, batch, Stage.COPY, Stage.VALIDATE, Stage.RESULTS)
    await caller.call("DELETE", f"/batches/{batch}")
    proxy.refuse(deletes, "AccessDenied")
    await step(components, batch, Stage.DELETE)
    await be_refused(components, batch, Stage.CLEANUP, times=MAX_DEFECTS - 1)
    await step(components, batch, Stage.CLEANUP)
    assert (await caller.get(f"/batches/{batch}")).status == 404
    assert f"files of batch {batch} can't be deleted" in caplog.text


async def test_callers_see_an_outage_without_the_code(
    caller: ApiCaller, proxy: RefusingS3, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"handler": await caller.upload(lines_of({})), "operation": "get_batch"}
    proxy.refuse(everything, "SignatureDoesNotMatch")
    reply = await caller.call("POST", "/batches", json=body)
    assert_refused(reply, 503, 503159)
    assert int(reply.headers["Retry-After"]) > 0
    assert "refuse" not in str(reply.body)
    assert "storage: refused to look at uploads/" in caplog.text
