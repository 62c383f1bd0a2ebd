"""The database goes back in time, but the storage does not: no result is lost."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from batchd.bootstrap import Components, open_components
from batchd.db.migrations import migrate
from batchd.devstack.postgres import Postgres
from batchd.devstack.postgres_cluster import CLEAN_ENVIRONMENT, program_path
from batchd.devstack.processes import run_command
from batchd.devstack.replicated_pair import ReplicatedPair, replicated_pair
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.operations import (
    Operation,
    OperationCall,
    OperationContext,
    OperationFactory,
    OperationRequest,
    OperationResult,
    ValidationIssue,
)
from batchd.settings import Settings
from tests.support.callers import END, ApiCaller, lines_of
from tests.support.clock import MovableClock
from tests.support.databases import connected
from tests.support.live import LiveServer, running_worker
from tests.support.polling import eventually
from tests.support.stepping import TO_COPIED, TO_PROCESSED, TO_PROCESSING, TO_THE_END, step

pytestmark = pytest.mark.slow

CHUNK_LINES = 10
LINES = 3 * CHUNK_LINES
STATES: Mapping[str, Sequence[Stage]] = {
    "new": (),
    "copied": TO_COPIED,
    "processing": TO_PROCESSING,
    "partly run": TO_PROCESSED,
    "completed": TO_THE_END,
    "deleted later": TO_THE_END,
    "cancelled later": TO_PROCESSED,
}
"""How far batches have come at the moment to which the database goes back."""
RUN_AGAIN = {"new"}
"""Batches whose file is copied again, so that no stored part is trusted."""


class Recorder:
    """Counts its calls, and holds up those whose line asks for it."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.go_on = asyncio.Event()

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        self.calls[call.key] += 1
        if "hold" in call.request.path:
            await self.go_on.wait()
        return OperationResult(status=200, body=b"{}")

    def calls_of(self, batch: str) -> Counter[int]:
        """Return how often each line was called."""
        return Counter(
            {
                int(key.rpartition(":")[2]): count
                for key, count in self.calls.items()
                if key.startswith(batch)
            }
        )


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def operations(recorder: Recorder) -> Sequence[OperationFactory]:
    @asynccontextmanager
    async def open_operation(_: OperationContext) -> AsyncIterator[Operation]:
        yield recorder

    return (open_operation,)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[ReplicatedPair]:
    async with replicated_pair(tmp_path) as running:
        yield running


@pytest.fixture
async def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    changes: dict[str, object] = {
        "chunk_lines": CHUNK_LINES,
        "line_concurrency": CHUNK_LINES,
        "lease_s": 2.0,
        "sweep_s": 0.5,
        "graveyard_s": 86_400.0,
    }
    if "pair" in request.fixturenames:
        pair: ReplicatedPair = request.getfixturevalue("pair")
        await migrate(pair.primary.url)
        changes["database_url"] = SecretStr(pair.url)
    return settings.model_copy(update=changes)


def file_of(lines: int, *, hold_from: int | None = None) -> bytes:
    return lines_of(
        *(
            {"id": f"n{n}", "path": {"hold": 1} if hold_from and n >= hold_from else {}}
            for n in range(1, lines + 1)
        )
    )


async def create_batches(caller: ApiCaller, components: Components) -> dict[str, str]:
    """Create a batch for each state, and bring it there."""
    batches = {state: await caller.create(file_of(LINES), "recorder") for state in STATES}
    for state, stages in STATES.items():
        for stage in stages:
            if stage is Stage.RESULTS:
                await run_other_chunks(components, batches[state])
            await step(components, batches[state], stage)
    return batches


async def run_other_chunks(components: Components, batch: str) -> None:
    async with components.database.connection() as connection:
        jobs = await connection.fetch(
            "SELECT payload FROM pgqueuer WHERE dedupe_key LIKE 'chunk:' || $1 || ':%'", batch
        )
    for job in jobs:
        await components.dispatcher.handle(Job.decode(job["payload"]))


async def live_on(caller: ApiCaller, components: Components, batches: Mapping[str, str]) -> None:
    """Complete, cancel and delete the batches, which the database will have forgotten."""
    cancelled, deleted = batches["cancelled later"], batches["deleted later"]
    await caller.call("PATCH", f"/batches/{cancelled}", json={"status": "cancel"})
    await caller.call("DELETE", f"/batches/{deleted}")
    await components.dispatcher.handle(Job(Stage.DELETE, BatchId(UUID(deleted))))
    assert (await caller.get(f"/batches/{deleted}")).status == 404
    for state, batch in batches.items():
        if state != "deleted later":
            end = "cancelled" if state == "cancelled later" else "completed"
            assert await caller.end(batch) == end, state
    await components.dispatcher.supervise()


async def end_of(caller: ApiCaller, batch: str) -> str:
    """Wait for the end of a batch, also while no server can be asked."""

    async def status() -> str:
        body = (await caller.get(f"/batches/{batch}")).body
        return str(body.get("status"))

    return await eventually(status, END.__contains__, within_s=90)


async def outcomes(caller: ApiCaller, batch: str) -> list[tuple[int, str]]:
    return [(line["line"], line["outcome"]) for line in await caller.download(batch)]


def all_succeeded(lines: int) -> list[tuple[int, str]]:
    return [(number, "succeeded") for number in range(1, lines + 1)]


async def assert_nothing_is_lost(
    caller: ApiCaller, recorder: Recorder, batches: Mapping[str, str]
) -> None:
    ends = {state: await end_of(caller, batch) for state, batch in batches.items()}
    assert ends == dict.fromkeys(STATES, "completed")
    results = {state: await outcomes(caller, batch) for state, batch in batches.items()}
    assert results == dict.fromkeys(STATES, all_succeeded(LINES))
    calls = {state: recorder.calls_of(batch) for state, batch in batches.items()}
    assert {state for state, count in calls.items() if set(count.values()) != {1}} <= RUN_AGAIN
    assert {state: count.total() for state, count in calls.items() if state in RUN_AGAIN} == (
        dict.fromkeys(RUN_AGAIN, 2 * LINES)
    )


async def test_failover_to_a_standby_that_lags_loses_no_result(
    pair: ReplicatedPair,
    caller: ApiCaller,
    components: Components,
    settings: Settings,
    recorder: Recorder,
) -> None:
    batches = await create_batches(caller, components)
    in_flight = await caller.create(file_of(LINES, hold_from=LINES - 5), "recorder")
    await pair.cut_replication()
    async with running_worker(settings, components):
        await live_on(caller, components, batches)

        async def calls_in_flight() -> int:
            return recorder.calls_of(in_flight).total()

        await eventually(calls_in_flight, lambda count: count == LINES)
        # The worker lives through it, with claims that the new primary knows nothing of.
        await pair.fail_over()
        await assert_nothing_is_lost(caller, recorder, batches)
        recorder.go_on.set()
        assert await end_of(caller, in_flight) == "completed"
    assert await outcomes(caller, in_flight) == all_succeeded(LINES)


async def test_restored_backup_loses_no_result(
    caller: ApiCaller,
    components: Components,
    settings: Settings,
    plugin_environment: Mapping[str, str],
    clock: MovableClock,
    operations: Sequence[OperationFactory],
    postgres: Postgres,
    recorder: Recorder,
) -> None:
    batches = await create_batches(caller, components)
    dump = await run_command(
        "pg_dump",
        [program_path("pg_dump"), "-d", settings.database_url.get_secret_value()],
        env=CLEAN_ENVIRONMENT,
    )
    async with running_worker(settings, components):
        await live_on(caller, components, batches)

    async with (
        connected(postgres.url) as databases,
        databases.temporary_database(template="template0") as url,
    ):
        await run_command(
            "psql",
            [program_path("psql"), "--quiet", "--set=ON_ERROR_STOP=1", "-d", url],
            env=CLEAN_ENVIRONMENT,
            stdin=dump.encode(),
        )
        restored = settings.model_copy(update={"database_url": SecretStr(url)})
        async with (
            open_components(
                restored, environment=plugin_environment, clock=clock, operations=operations
            ) as opened,
            running_worker(restored, opened),
        ):
            server = LiveServer(restored, opened)
            await server.start_server()
            api_url = str(server.make_url("")).rstrip("/")
            restored_caller = ApiCaller(caller.session, api_url, caller.user)
            await assert_nothing_is_lost(restored_caller, recorder, batches)
            await server.close()
