"""Workers are killed at the worst moments, and what they were at is finished by others, once."""

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
import pytest

from batchd.bootstrap import Components
from batchd.domain.jobs import Stage
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.history import History
from tests.support.polling import eventually
from tests.support.stepping import TO_PROCESSED, step
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.slow

NOBODY = "00000000-0000-7000-8000-000000000000"
SUCCESS = [
    *("new", "copying", "copied", "validating"),
    *("processing", "processed", "writing_results", "completed"),
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": 250, "lease_s": 3.0})


async def kill(process: Process) -> None:
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def until_some_lines_are_done(caller: ApiCaller, batch: str) -> int:
    """Return how many; not all, that is."""

    async def progress() -> tuple[int, int | None]:
        shown = (await caller.get(f"/batches/{batch}?expand=progress")).body["progress"]
        return shown["succeeded"], shown["total"]

    done, total = await eventually(progress, lambda seen: seen[0] > 0)
    assert total is not None
    assert done < total
    return done


async def assert_every_line_once_in_order(caller: ApiCaller, batch: str, lines: int) -> None:
    data = await caller.download_bytes(batch)
    results = [json.loads(line) for line in data.splitlines()]
    assert [(line["line"], line["id"]) for line in results] == [
        (number, str(number)) for number in range(1, lines + 1)
    ]
    assert {line["status"] for line in results} == {200}
    shown = (await caller.get(f"/batches/{batch}?expand=progress,results")).body
    assert shown["results"]["lines"] == lines
    assert shown["progress"] == {
        "total": lines,
        "succeeded": lines,
        "failed": 0,
        "cancelled": 0,
        "remaining": 0,
    }


async def batch_of(caller: ApiCaller, lines: int) -> str:
    """Make a batch each of whose lines looks at another batch."""
    target = await caller.create(b"")
    return await caller.create(
        lines_of(*({"id": str(n), "path": {"batch": target}} for n in range(1, lines + 1)))
    )


async def test_batch_of_20000_lines_survives_its_worker(
    caller: ApiCaller, process_environment: Mapping[str, str], history: History
) -> None:
    batch = await batch_of(caller, 20_000)
    async with worker_process(process_environment) as first:
        await until_some_lines_are_done(caller, batch)
        await kill(first)
    assert await caller.status(batch) == "processing"
    async with worker_process(process_environment):
        assert await caller.end(batch, within_s=120) == "completed"
    await assert_every_line_once_in_order(caller, batch, 20_000)
    assert await history.of(batch) == SUCCESS


async def test_worker_that_is_asked_to_end_gives_its_work_back_at_once(
    caller: ApiCaller, components: Components, process_environment: Mapping[str, str]
) -> None:
    batch = await batch_of(caller, 3_000)
    async with worker_process(process_environment) as first:
        await until_some_lines_are_done(caller, batch)
        first.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await first.wait() == 0
    async with components.database.connection() as connection:
        left = await connection.fetch(
            "SELECT 'chunk:' || batch || ':' || no AS job FROM chunks WHERE part_key IS NULL"
        )
        jobs = await connection.fetch("SELECT dedupe_key AS job FROM pgqueuer")
        waiting = await connection.fetch(
            "SELECT dedupe_key AS job FROM pgqueuer"
            " WHERE status = 'queued' AND execute_after <= now()"
        )
    assert left
    # Nobody has to wait for a lease to end, or for the sweep.
    assert set(left) <= set(waiting)
    assert set(waiting) == set(jobs)
    async with worker_process(process_environment):
        assert await caller.end(batch) == "completed"
    await assert_every_line_once_in_order(caller, batch, 3_000)


async def test_idle_worker_ends_when_it_is_asked_to(
    caller: ApiCaller, process_environment: Mapping[str, str]
) -> None:
    batch = await caller.create(b"")
    async with worker_process(process_environment) as process:
        assert await caller.end(batch) == "completed"
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(5):
            assert await process.wait() == 0


async def test_frozen_worker_that_thaws_writes_over_nobody(
    caller: ApiCaller, process_environment: Mapping[str, str], history: History
) -> None:
    """It was taken for dead, and its chunks are another's: the zombie must change nothing."""
    batch = await batch_of(caller, 3_000)
    async with worker_process(process_environment) as frozen:
        await until_some_lines_are_done(caller, batch)
        frozen.send_signal(signal.SIGSTOP)
        async with worker_process(process_environment):
            assert await caller.end(batch, within_s=60) == "completed"
        frozen.send_signal(signal.SIGCONT)
        # It ends what it was at, and then itself.
        frozen.send_signal(signal.SIGTERM)
        assert await frozen.wait() == 0
    await assert_every_line_once_in_order(caller, batch, 3_000)
    assert await history.of(batch) == SUCCESS


async def test_what_a_worker_left_that_died_right_after_the_end_is_removed(
    caller: ApiCaller,
    components: Components,
    process_environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def die(*_: object, **__: object) -> None:
        raise ConnectionAbortedError

    async def files() -> list[str]:
        prefix = f"batches/{caller.user.user.account}/{batch}/"
        keys = components.dispatcher._context.storage.list_keys(prefix)
        return [key.removeprefix(prefix) async for key in keys]

    batch = await caller.create(lines_of({"path": {"batch": NOBODY}}))
    await step(components, batch, *TO_PROCESSED)
    with monkeypatch.context() as patched:
        patched.setattr("batchd.pipeline.results.delete_files", die)
        with pytest.raises(ConnectionAbortedError):
            await step(components, batch, Stage.RESULTS)
    assert await caller.status(batch) == "completed"
    assert len(await files()) > 1
    async with worker_process(process_environment):
        (left,) = await eventually(files, lambda found: len(found) == 1)
    assert left.startswith("results.")
    assert len(await caller.download(batch)) == 1


# Between two statuses

_HOLD = """
CREATE TABLE held (batch uuid, status text);

CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> OLD.status
        AND EXISTS (SELECT FROM held h WHERE h.batch = OLD.batch AND h.status = OLD.status)
    THEN
        PERFORM pg_advisory_xact_lock_shared(7);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER hold BEFORE UPDATE ON batches FOR EACH ROW EXECUTE FUNCTION hold();
"""

_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted"


@asynccontextmanager
async def held_in_status(database_url: str, wanted: dict[str, str]) -> AsyncIterator[None]:
    """Let no worker take these batches out of these statuses: it waits, in the database."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_HOLD)
        await connection.execute("SELECT pg_advisory_lock(7)")
        await connection.executemany("INSERT INTO held VALUES ($1, $2)", wanted.items())
        yield
    finally:
        await connection.close()


async def test_worker_killed_at_the_end_of_a_stage_is_replaced(
    caller: ApiCaller,
    components: Components,
    process_environment: Mapping[str, str],
    database_url: str,
    history: History,
) -> None:
    """The most is lost there: all is written, and nobody has been told."""
    stages = {
        await caller.create(lines_of({"id": "1", "path": {"batch": NOBODY}})): status
        for status in ("copying", "validating", "writing_results")
    }

    async def waiting() -> int:
        async with components.database.connection() as connection:
            count: int = await connection.fetchval(_WAITING)
        return count

    async with held_in_status(database_url, stages):
        async with worker_process(process_environment) as first:
            await eventually(waiting, len(stages).__eq__)
            await kill(first)
        assert {batch: await caller.status(batch) for batch in stages} == stages
        async with components.database.connection() as connection:
            await connection.execute("DELETE FROM held")
    async with worker_process(process_environment):
        for batch in stages:
            assert await caller.end(batch) == "completed"
            assert await history.of(batch) == SUCCESS
            (line,) = await caller.download(batch)
            assert (line["id"], line["status"]) == ("1", 404)
        # What the first one had written has gone too.
        storage = components.dispatcher._context.storage
        prefix = f"batches/{caller.user.user.account}/"

        async def files() -> list[str]:
            return [key.split("/")[2] async for key in storage.list_keys(prefix)]

        await eventually(files, lambda found: sorted(found) == sorted(stages))
