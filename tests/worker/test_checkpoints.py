"""The finished lines of a stopped worker's chunk are kept, and only the others run again."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from batchd.bootstrap import Components
from batchd.db import chunks
from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.operations import OperationResult
from batchd.pipeline.chunks import runner
from batchd.pipeline.chunks.runner import MAX_CLAIMS
from batchd.pipeline.dead_letter import dead_letter
from batchd.pipeline.result_lines import encode
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.polling import eventually
from tests.support.s3_storage import fail_to_read, put
from tests.support.stepping import TO_PROCESSING, step
from tests.support.upstream import Upstream, running_upstream
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.slow

LINES = 6
FINISHED = 3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"line_concurrency": 2})


async def create_processing_batch(caller: ApiCaller, components: Components) -> str:
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    return batch


async def stop_in_the_middle(components: Components, gated: GatedOperation, batch: str) -> None:
    """Run the chunk until three lines are finished, then stop like a worker at SIGTERM."""
    finished = len(gated.finished)
    chunk = asyncio.create_task(step(components, batch, Stage.CHUNK))
    gated.release(FINISHED)
    await gated.wait_finished(finished + FINISHED)
    chunk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chunk


async def cancel(caller: ApiCaller, batch: str) -> None:
    reply = await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    assert reply.status == 200


async def progress(caller: ApiCaller, batch: str) -> tuple[int, int]:
    counts = (await caller.get(f"/batches/{batch}?expand=progress")).body["progress"]
    return counts["succeeded"], counts["cancelled"]


async def checkpoint_keys(components: Components) -> list[str]:
    async with components.database.connection() as connection:
        rows = await connection.fetch("SELECT checkpoint_key FROM chunks")
    return [row["checkpoint_key"] for row in rows]


async def files(components: Components, caller: ApiCaller, batch: str) -> list[str]:
    """Return the names of the files with results of chunks."""
    prefix = f"batches/{caller.user.user.account}/{batch}/parts/"
    storage = components.dispatcher._context.storage
    return [key.removeprefix(prefix) async for key in storage.list_keys(prefix)]


async def test_only_the_lines_that_were_not_finished_are_run_again(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    await stop_in_the_middle(components, gated, batch)
    assert await progress(caller, batch) == (FINISHED, 0)
    gated.release(LINES)
    await step(components, batch, Stage.CHUNK)
    assert await progress(caller, batch) == (LINES, 0)
    await step(components, batch, Stage.RESULTS)
    assert [line["body"]["n"] for line in await caller.download(batch)] == [1, 2, 3, 4, 5, 6]
    assert sorted(gated.finished) == [1, 2, 3, 4, 5, 6]


async def test_chunk_can_be_stopped_several_times(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await caller.create(numbered_lines(3 * FINISHED), "gated")
    await step(components, batch, *TO_PROCESSING)
    await stop_in_the_middle(components, gated, batch)
    await stop_in_the_middle(components, gated, batch)
    assert await progress(caller, batch) == (2 * FINISHED, 0)
    gated.release(FINISHED)
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    assert len(await caller.download(batch)) == 3 * FINISHED
    assert sorted(gated.finished) == list(range(1, 3 * FINISHED + 1))


async def test_cancelled_batch_keeps_what_a_stopped_worker_had_finished(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    await stop_in_the_middle(components, gated, batch)
    await cancel(caller, batch)
    await step(components, batch, Stage.CANCEL)
    assert await caller.status(batch) == "cancelled"
    results = await caller.download(batch)
    outcomes = {line["line"]: line["outcome"] for line in results}
    assert list(outcomes) == [1, 2, 3, 4, 5, 6]
    assert {n for n in outcomes if outcomes[n] == "succeeded"} == set(gated.finished)
    assert await progress(caller, batch) == (FINISHED, LINES - FINISHED)


async def test_death_during_the_other_lines_loses_no_checkpoint(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    await stop_in_the_middle(components, gated, batch)
    async with components.database.connection() as connection:
        for _ in range(MAX_CLAIMS):
            await chunks.claim(connection, BatchId(UUID(batch)), 0, lease_s=0.1)
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    statuses = Counter(line["status"] for line in await caller.download(batch))
    assert statuses == {200: FINISHED, 500: LINES - FINISHED}


async def test_lines_of_a_lost_checkpoint_are_run_again(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    await stop_in_the_middle(components, gated, batch)
    await components.dispatcher._context.storage.delete(await checkpoint_keys(components))
    gated.release(LINES)
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    assert [line["status"] for line in await caller.download(batch)] == [200] * LINES


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(
            StorageRefused("no", code="KMS.DisabledException", action="read"), id="refused"
        ),
        pytest.param(ProcessingTimeout("The storage is not responding."), id="damaged"),
        pytest.param(None, id="not JSON"),
    ],
)
async def test_lines_of_a_checkpoint_that_cannot_be_read_are_run_again(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None,
) -> None:
    batch = await create_processing_batch(caller, components)
    await stop_in_the_middle(components, gated, batch)
    (key,) = await checkpoint_keys(components)
    await put(components.dispatcher._context.storage, key, b"no JSON\n")
    if error is not None:
        fail_to_read(monkeypatch, ".checkpoint", error)
    gated.release(LINES)
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    assert [line["status"] for line in await caller.download(batch)] == [200] * LINES


async def test_poisoned_chunk_counts_the_lines_of_its_checkpoint_as_they_ended(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    await stop_in_the_middle(components, gated, batch)
    context = components.dispatcher._context
    await dead_letter(context, Job(Stage.CHUNK, BatchId(UUID(batch)), 0))
    body = (await caller.get(f"/batches/{batch}?expand=progress,errors")).body
    counts = body["progress"]
    assert (counts["succeeded"], counts["failed"]) == (FINISHED, LINES - FINISHED)
    assert body["errors"] == {"500": {"count": LINES - FINISHED, "lines": []}}


async def test_claim_that_ends_in_an_outage_of_the_database_is_released_after_it(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await create_processing_batch(caller, components)
    fail_to_read(monkeypatch, "/copy.", ProcessingTimeout("The storage is not responding."))
    release = chunks.release
    attempts = 0

    async def fail_once(*arguments: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ProcessingTimeout("The database is not responding.")
        await release(*arguments)

    monkeypatch.setattr(chunks, "release", fail_once)
    monkeypatch.setattr(runner, "_RETRY_DELAY_S", 0)
    with pytest.raises(ProcessingTimeout):
        await step(components, batch, Stage.CHUNK)
    async with components.database.connection() as connection:
        (chunk,) = await chunks.find_all(connection, BatchId(UUID(batch)))
    assert (chunk.claims, chunk.releases) == (1, 1)


async def test_no_line_outlives_a_chunk_that_ends_with_a_defect(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another line is running; it does not finish within the grace period."""

    def refuse(*_: object) -> bytes:
        raise ValueError("a defect")

    batch = await create_processing_batch(caller, components)
    gated.release(1)
    with monkeypatch.context() as patched:
        patched.setattr("batchd.pipeline.result_lines.encode", refuse)
        with pytest.raises(ValueError, match="a defect"):
            await step(components, batch, Stage.CHUNK)
    assert gated.started == [1, 2]
    assert [task for task in asyncio.all_tasks() if "_run_lines" in repr(task.get_coro())] == []


async def test_replaced_worker_stores_no_checkpoint(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    stopped = asyncio.create_task(step(components, batch, Stage.CHUNK))
    gated.release(FINISHED)
    await gated.wait_finished(FINISHED)
    async with components.database.connection() as connection:
        await chunks.claim(connection, BatchId(UUID(batch)), 0, lease_s=60)
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    assert await checkpoint_keys(components) == [None]
    assert await files(components, caller, batch) == []


async def test_checkpoints_of_an_ended_batch_are_deleted(
    caller: ApiCaller, components: Components, gated: GatedOperation
) -> None:
    batch = await create_processing_batch(caller, components)
    await stop_in_the_middle(components, gated, batch)
    (file,) = await files(components, caller, batch)
    assert file.endswith(".checkpoint")
    gated.release(LINES)
    await step(components, batch, Stage.CHUNK, Stage.RESULTS, Stage.CLEANUP)
    assert await files(components, caller, batch) == []


async def test_defect_loses_no_finished_line(
    caller: ApiCaller,
    components: Components,
    gated: GatedOperation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse_line_4(number: int, line_id: str, result: OperationResult) -> bytes:
        if number == 4:
            raise ValueError("a defect")
        return encode(number, line_id, result)

    batch = await create_processing_batch(caller, components)
    gated.release(2 * LINES)
    with monkeypatch.context() as patched:
        patched.setattr("batchd.pipeline.result_lines.encode", refuse_line_4)
        with pytest.raises(ValueError, match="a defect"):
            await step(components, batch, Stage.CHUNK)
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    calls = Counter(gated.finished)
    assert [calls[n] for n in (1, 2, 3)] == [1, 1, 1]
    assert [line["status"] for line in await caller.download(batch)] == [200] * LINES


class TestAtSigterm:
    """A real worker, whose upstream counts the calls."""

    LINES = 200
    FIRST_CALLS = 120
    CONCURRENCY = 8

    @pytest.fixture
    async def upstream(self) -> AsyncIterator[Upstream]:
        async with running_upstream() as running:
            yield running

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(
            update={
                "chunk_lines": self.LINES,
                "line_concurrency": self.CONCURRENCY,
                "worker_grace_s": 5.0,
            }
        )

    @pytest.fixture
    def plugin_environment(
        self, plugin_environment: Mapping[str, str], upstream: Upstream, tmp_path: Path
    ) -> Mapping[str, str]:
        file = tmp_path / "operations.toml"
        file.write_text('[operations.touch]\nmethod = "PUT"\nurl = "${OWN_URL}/{n}"\n')
        return {
            **plugin_environment,
            "BATCHD_OPERATIONS": str(file),
            "OWN_URL": upstream.url,
        }

    async def test_only_lines_that_did_not_finish_in_time_are_called_twice(
        self,
        caller: ApiCaller,
        components: Components,
        process_environment: Mapping[str, str],
        upstream: Upstream,
    ) -> None:
        terminating = asyncio.Event()
        pending: list[str] = []

        async def respond(request: web.Request) -> web.StreamResponse:
            """Delay the calls after the first ones; at SIGTERM respond to half of those."""
            if len(upstream.requests) > self.FIRST_CALLS:
                pending.append(request.path)
                responds = len(pending) <= self.CONCURRENCY // 2
                await terminating.wait()
                if not responds:
                    await asyncio.Event().wait()
                pending.remove(request.path)
            return web.json_response({})

        async def pending_count() -> int:
            return len(pending)

        upstream.reply(lambda: respond)
        lines = lines_of(*({"path": {"n": n}} for n in range(1, self.LINES + 1)))
        batch = await caller.create(lines, "touch")
        async with worker_process(process_environment) as terminated:
            await eventually(pending_count, self.CONCURRENCY.__eq__)
            terminated.send_signal(signal.SIGTERM)
            terminating.set()
            assert await terminated.wait() == 0
        calls = len(upstream.requests)
        assert calls == len({call.target for call in upstream.requests})
        assert calls < self.LINES
        never_finished = set(pending)
        assert self.CONCURRENCY // 2 <= len(never_finished) <= self.CONCURRENCY
        upstream.statuses([200])
        async with worker_process(process_environment):
            assert await caller.end(batch) == "completed"
        counts = Counter(call.target for call in upstream.requests)
        assert len(counts) == self.LINES
        assert {target for target in counts if counts[target] > 1} == never_finished
        results = [json.loads(line) for line in (await caller.download_bytes(batch)).splitlines()]
        assert [line["line"] for line in results] == list(range(1, self.LINES + 1))
        assert {line["status"] for line in results} == {200}
