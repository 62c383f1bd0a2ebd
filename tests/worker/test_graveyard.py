"""Unneeded files are kept for a while, in case a failover turns back time."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from batchd.bootstrap import Components
from batchd.db import job_failures
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.pipeline import supervisor
from batchd.pipeline.dead_letter import dead_letter
from batchd.pipeline.dispatcher import MAX_DEATHS
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.gated_operation import numbered_lines
from tests.support.stepping import TO_COPIED, TO_PROCESSED, TO_THE_END, step

pytestmark = pytest.mark.slow

DAY_S = 86_400
URL_S = 3 * 3600
"""Longer than an upload URL is valid."""

Files = Callable[[], Awaitable[list[str]]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"graveyard_s": float(DAY_S)})


@pytest.fixture
def files(components: Components, caller: ApiCaller) -> Files:
    """Return a function that lists what kinds of files the account has."""
    storage = components.dispatcher._context.storage

    async def find() -> list[str]:
        keys: list[str] = []
        for area in ("uploads", "batches"):
            prefix = f"{area}/{caller.user.user.account}/"
            keys += [key async for key in storage.list_keys(prefix)]
        kinds = ("uploads/", "/copy.", "/lines.", "/parts/", "/results.", "/report.")
        return sorted(kind.strip("/.") for key in keys for kind in kinds if kind in key)

    return find


async def jobs_of(components: Components, batch: str) -> list[str]:
    async with components.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT dedupe_key FROM pgqueuer WHERE dedupe_key LIKE 'tidy:%' || $1 || '%'", batch
        )
    return [row["dedupe_key"] for row in rows]


async def seconds_until_due(components: Components, batch: str) -> float | None:
    async with components.database.connection() as connection:
        seconds: float | None = await connection.fetchval(
            "SELECT extract(epoch FROM due - now())::float8 FROM graveyard WHERE batch = $1",
            UUID(batch),
        )
    return seconds


async def let_it_be_due(components: Components) -> None:
    async with components.database.connection() as connection:
        await connection.execute("UPDATE graveyard SET due = now()")


async def ended(components: Components, caller: ApiCaller, end: str) -> str:
    match end:
        case "completed":
            batch = await caller.create(numbered_lines(2), "no_op")
            await step(components, batch, *TO_THE_END)
        case "validation_failed":
            batch = await caller.create(b"no JSON\n", "no_op")
            await step(components, batch, *TO_THE_END)
        case "hash_mismatch":
            batch = await caller.create(numbered_lines(2), "no_op", hash="0" * 64)
            await step(components, batch, *TO_COPIED)
        case _:
            batch = await caller.create(numbered_lines(2), "no_op")
            await step(components, batch, *TO_COPIED)
            await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
            await step(components, batch, Stage.CANCEL)
    assert await caller.status(batch) == end
    return batch


@pytest.mark.parametrize(
    ("end", "buried", "remaining"),
    [
        ("completed", ["copy", "parts", "results", "uploads"], ["results"]),
        ("validation_failed", ["copy", "report", "uploads"], ["report"]),
        ("hash_mismatch", ["uploads"], []),
        ("cancelled", ["copy", "uploads"], []),
    ],
)
async def test_files_of_a_batch_at_its_end_are_deleted_when_they_are_due(
    caller: ApiCaller,
    components: Components,
    files: Files,
    end: str,
    buried: list[str],
    remaining: list[str],
) -> None:
    batch = await ended(components, caller, end)
    await components.dispatcher.supervise()
    assert await files() == buried
    assert await jobs_of(components, batch) == []
    due_s = await seconds_until_due(components, batch)
    assert due_s is not None
    assert DAY_S - 3600 < due_s <= DAY_S

    await let_it_be_due(components)
    await components.dispatcher.supervise()
    assert await jobs_of(components, batch) == [f"tidy:{batch}"]
    await step(components, batch, Stage.CLEANUP)

    assert await files() == remaining
    assert await seconds_until_due(components, batch) is None


async def test_files_of_a_deleted_batch_are_inaccessible_at_once_and_deleted_when_due(
    caller: ApiCaller, components: Components, files: Files
) -> None:
    batch = await ended(components, caller, "completed")
    await let_it_be_due(components)
    assert (await caller.call("DELETE", f"/batches/{batch}")).body["status"] == "deleting"
    assert "download" not in (await caller.get(f"/batches/{batch}?download=true")).body
    await step(components, batch, Stage.DELETE)
    assert (await caller.get(f"/batches/{batch}?download=true")).status == 404

    # The job of the batch's end does not delete what was buried later.
    await components.dispatcher.supervise()
    assert await jobs_of(components, batch) == []
    assert await files() == ["copy", "parts", "results", "uploads"]

    await let_it_be_due(components)
    await step(components, batch, Stage.CLEANUP)
    assert await files() == []
    assert await seconds_until_due(components, batch) is None


async def test_job_of_the_previous_version_needs_no_grave(
    caller: ApiCaller, components: Components, files: Files
) -> None:
    batch = await ended(components, caller, "completed")
    async with components.database.connection() as connection:
        await connection.execute("DELETE FROM graveyard")
    await step(components, batch, Stage.CLEANUP)
    assert await files() == ["results"]


async def test_no_file_of_an_open_batch_is_deleted(
    caller: ApiCaller, components: Components, files: Files
) -> None:
    """Whatever job is left over from before a failover."""
    batch = await caller.create(numbered_lines(2), "no_op")
    await step(components, batch, *TO_PROCESSED)
    await step(components, batch, Stage.CLEANUP)
    assert await files() == ["copy", "parts", "uploads"]


async def let_time_pass(components: Components, seconds: float) -> None:
    """Make all uploads and batches older, by the clock of the database."""
    async with components.database.connection() as connection:
        await connection.execute(
            "UPDATE uploads SET validity_ts = validity_ts - make_interval(secs => $1)", seconds
        )
        await connection.execute(
            "UPDATE batches SET updated_ts = updated_ts - make_interval(secs => $1)", seconds
        )


async def test_expired_upload_of_a_batch_is_kept_as_long_as_its_other_files(
    caller: ApiCaller, components: Components, files: Files
) -> None:
    batch = await caller.create(numbered_lines(2), "no_op")
    await let_time_pass(components, 2 * DAY_S)
    await components.dispatcher.supervise()
    assert await files() == ["uploads"]
    await step(components, batch, *TO_THE_END)
    await let_time_pass(components, URL_S)
    await components.dispatcher.supervise()
    assert await files() == ["copy", "parts", "results", "uploads"]
    await let_time_pass(components, DAY_S)
    await components.dispatcher.supervise()
    assert await files() == ["copy", "parts", "results"]


async def test_no_more_cleanups_are_queued_than_may_wait(
    caller: ApiCaller, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many batches ended at the same time: stages of other batches wait behind them."""
    monkeypatch.setattr(supervisor, "_MAX_CLEANUPS", 2)
    batches = [await ended(components, caller, "hash_mismatch") for _ in range(3)]
    await let_it_be_due(components)
    await components.dispatcher.supervise()
    await components.dispatcher.supervise()
    queued = [batch for batch in batches if await jobs_of(components, batch)]
    assert len(queued) == 2


async def test_cleanup_that_keeps_failing_is_reported_and_postponed(
    caller: ApiCaller, components: Components, caplog: pytest.LogCaptureFixture
) -> None:
    batch = await ended(components, caller, "completed")
    await let_it_be_due(components)
    await dead_letter(components.dispatcher._context, Job(Stage.CLEANUP, BatchId(UUID(batch))))
    due_s = await seconds_until_due(components, batch)
    assert due_s is not None
    assert due_s > DAY_S - 3600
    assert f"they are under batches/{caller.user.user.account}/{batch}/" in caplog.text


async def test_cleanup_that_was_given_up_is_tried_again_a_day_later(
    caller: ApiCaller, components: Components, files: Files
) -> None:
    """However often it failed, or its worker died, the day before."""
    batch = await ended(components, caller, "completed")
    job = Job(Stage.CLEANUP, BatchId(UUID(batch)))
    await let_it_be_due(components)
    async with components.database.connection() as connection:
        for _ in range(MAX_DEATHS):
            await job_failures.record_start(connection, job)
    await components.dispatcher.handle(job)
    assert await files() == ["copy", "parts", "results", "uploads"]
    await let_it_be_due(components)
    await components.dispatcher.handle(job)
    assert await files() == ["results"]


async def test_cleanup_of_the_previous_version_that_keeps_failing_is_tried_again(
    caller: ApiCaller, components: Components, caplog: pytest.LogCaptureFixture
) -> None:
    """It has no grave, from which the supervisor could queue it."""
    batch = await ended(components, caller, "completed")
    async with components.database.connection() as connection:
        await connection.execute("DELETE FROM graveyard")
    await dead_letter(components.dispatcher._context, Job(Stage.CLEANUP, BatchId(UUID(batch))))
    due_s = await seconds_until_due(components, batch)
    assert due_s is not None
    assert due_s > DAY_S - 3600
    assert f"they are under batches/{caller.user.user.account}/{batch}/" in caplog.text
