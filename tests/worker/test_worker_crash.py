"""Workers are killed in critical moments, and other workers complete their batches correctly."""

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
import pytest

from batchd.bootstrap import Components
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.history import History
from tests.support.polling import NEVER_S, TIMEOUT_S, eventually
from tests.support.stepping import TO_THE_END, step
from tests.support.worker_process import worker_process

pytestmark = pytest.mark.slow

NOBODY = "00000000-0000-7000-8000-000000000000"
SUCCESS = [
    *("new", "copying", "copied", "validating"),
    *("processing", "processed", "writing_results", "completed"),
]


@pytest.fixture
def lease_s() -> float:
    """Return a lease that is short enough to wait for."""
    return 3.0


@pytest.fixture
def settings(settings: Settings, lease_s: float) -> Settings:
    return settings.model_copy(update={"chunk_lines": 250, "lease_s": lease_s})


async def kill(process: Process) -> None:
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def wait_for_progress(caller: ApiCaller, batch: str) -> int:
    """Wait until some but not all lines are done; return how many."""

    async def progress() -> tuple[int, int | None]:
        counts = (await caller.get(f"/batches/{batch}?expand=progress")).body["progress"]
        return counts["succeeded"], counts["total"]

    done, total = await eventually(progress, lambda counts: counts[0] > 0)
    assert total is not None
    assert done < total
    return done


async def assert_each_line_has_one_result(caller: ApiCaller, batch: str, lines: int) -> None:
    data = await caller.download_bytes(batch)
    results = [json.loads(line) for line in data.splitlines()]
    assert [(line["line"], line["id"]) for line in results] == [
        (number, str(number)) for number in range(1, lines + 1)
    ]
    assert {line["status"] for line in results} == {200}
    body = (await caller.get(f"/batches/{batch}?expand=progress,results")).body
    assert body["results"]["lines"] == lines
    assert body["progress"] == {
        "total": lines,
        "succeeded": lines,
        "failed": 0,
        "cancelled": 0,
        "remaining": 0,
    }


async def create_batch(caller: ApiCaller, lines: int) -> str:
    """Create a batch whose lines get another batch."""
    target = await caller.create(b"")
    return await caller.create(
        lines_of(*({"id": str(n), "path": {"batch": target}} for n in range(1, lines + 1)))
    )


async def test_batch_of_many_chunks_survives_a_killed_worker(
    caller: ApiCaller, process_environment: Mapping[str, str], history: History
) -> None:
    batch = await create_batch(caller, 5_000)
    async with worker_process(process_environment) as killed:
        await wait_for_progress(caller, batch)
        await kill(killed)
    assert await caller.status(batch) == "processing"
    async with worker_process(process_environment):
        assert await caller.end(batch, within_s=120) == "completed"
    await assert_each_line_has_one_result(caller, batch, 5_000)
    assert await history.of(batch) == SUCCESS


@pytest.mark.parametrize("lease_s", [NEVER_S])
async def test_terminated_worker_returns_its_jobs_at_once(
    caller: ApiCaller, components: Components, process_environment: Mapping[str, str]
) -> None:
    batch = await create_batch(caller, 3_000)
    async with worker_process(process_environment) as terminated:
        await wait_for_progress(caller, batch)
        terminated.send_signal(signal.SIGTERM)
        async with asyncio.timeout(TIMEOUT_S):
            assert await terminated.wait() == 0
    async with components.database.connection() as connection:
        pending = await connection.fetch(
            "SELECT 'chunk:' || batch || ':' || no AS job FROM chunks WHERE part_key IS NULL"
        )
        jobs = await connection.fetch("SELECT dedupe_key AS job FROM pgqueuer")
        ready = await connection.fetch(
            "SELECT dedupe_key AS job FROM pgqueuer"
            " WHERE status = 'queued' AND execute_after <= now()"
        )
    assert pending
    # No job waits for a lease to expire, or for the supervisor.
    assert set(pending) <= set(ready)
    assert set(ready) == set(jobs)
    async with worker_process(process_environment):
        assert await caller.end(batch) == "completed"
    await assert_each_line_has_one_result(caller, batch, 3_000)


async def test_idle_worker_exits_when_interrupted(
    caller: ApiCaller, process_environment: Mapping[str, str]
) -> None:
    batch = await caller.create(b"")
    async with worker_process(process_environment) as process:
        assert await caller.end(batch) == "completed"
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(TIMEOUT_S):
            assert await process.wait() == 0


async def test_resumed_worker_overwrites_nothing(
    caller: ApiCaller, process_environment: Mapping[str, str], history: History
) -> None:
    """It was presumed dead, and another worker has claimed its chunks."""
    batch = await create_batch(caller, 3_000)
    async with worker_process(process_environment) as frozen:
        await wait_for_progress(caller, batch)
        frozen.send_signal(signal.SIGSTOP)
        async with worker_process(process_environment):
            assert await caller.end(batch) == "completed"
        frozen.send_signal(signal.SIGCONT)
        # It finishes its current work before it exits.
        frozen.send_signal(signal.SIGTERM)
        assert await frozen.wait() == 0
    await assert_each_line_has_one_result(caller, batch, 3_000)
    assert await history.of(batch) == SUCCESS


async def test_unneeded_files_of_a_worker_that_died_at_the_end_are_deleted(
    caller: ApiCaller,
    components: Components,
    process_environment: Mapping[str, str],
) -> None:
    async def files() -> list[str]:
        prefix = f"batches/{caller.user.user.account}/{batch}/"
        keys = components.dispatcher._context.storage.list_keys(prefix)
        return [key.removeprefix(prefix) async for key in keys]

    batch = await caller.create(lines_of({"path": {"batch": NOBODY}}))
    await step(components, batch, *TO_THE_END)
    assert await caller.status(batch) == "completed"
    assert len(await files()) > 1
    async with worker_process(process_environment):
        (key,) = await eventually(files, lambda keys: len(keys) == 1)
    assert key.startswith("results.")
    assert len(await caller.download(batch)) == 1


# Killed between two statuses

_BLOCK_TRANSITIONS = """
CREATE TABLE blocked_statuses (batch uuid, status text);

CREATE FUNCTION block_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> OLD.status
        AND (OLD.batch, OLD.status) IN (SELECT batch, status FROM blocked_statuses)
    THEN
        PERFORM pg_advisory_xact_lock_shared(7);
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER block_transition BEFORE UPDATE ON batches
FOR EACH ROW EXECUTE FUNCTION block_transition();
"""

_COUNT_BLOCKED = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted"
)


@asynccontextmanager
async def blocked_in_status(database_url: str, statuses: dict[str, str]) -> AsyncIterator[None]:
    """Block, in the database, transitions of these batches from these statuses."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_BLOCK_TRANSITIONS)
        await connection.execute("SELECT pg_advisory_lock(7)")
        await connection.executemany(
            "INSERT INTO blocked_statuses VALUES ($1, $2)", statuses.items()
        )
        yield
    finally:
        await connection.close()


async def test_worker_killed_before_the_end_of_a_stage_is_replaced(
    caller: ApiCaller,
    components: Components,
    process_environment: Mapping[str, str],
    database_url: str,
    history: History,
) -> None:
    """This loses the most work: everything is written, but the status has not changed."""
    statuses = {
        await caller.create(lines_of({"id": "1", "path": {"batch": NOBODY}})): status
        for status in ("copying", "validating", "writing_results")
    }

    async def blocked() -> int:
        async with components.database.connection() as connection:
            count: int = await connection.fetchval(_COUNT_BLOCKED)
        return count

    async with blocked_in_status(database_url, statuses):
        async with worker_process(process_environment) as killed:
            await eventually(blocked, len(statuses).__eq__)
            await kill(killed)
        assert {batch: await caller.status(batch) for batch in statuses} == statuses
        async with components.database.connection() as connection:
            await connection.execute("DELETE FROM blocked_statuses")
    async with worker_process(process_environment):
        assert {await caller.end(batch) for batch in statuses} == {"completed"}
        assert [await history.of(batch) for batch in statuses] == [SUCCESS] * len(statuses)
        results = [await caller.download(batch) for batch in statuses]
        assert [[(line["id"], line["status"]) for line in lines] for lines in results] == [
            [("1", 404)]
        ] * len(statuses)
        # The files of the killed worker are deleted as well.
        storage = components.dispatcher._context.storage
        prefix = f"batches/{caller.user.user.account}/"

        async def files() -> list[str]:
            return [key.split("/")[2] async for key in storage.list_keys(prefix)]

        await eventually(files, lambda folders: sorted(folders) == sorted(statuses))
