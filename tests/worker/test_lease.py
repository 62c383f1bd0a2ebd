"""A worker that has lost the database starts no more calls, by its own clock."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest
from pydantic import SecretStr

from batchd.bootstrap import Components, open_components
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.jobs import Stage
from batchd.domain.operations import OperationCall, OperationFactory, OperationResult
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.clock import MovableClock
from tests.support.fixtures import MakeCaller
from tests.support.gated_operation import GatedOperation, numbered_lines
from tests.support.relay import Relay, relay_to
from tests.support.stepping import TO_PROCESSING, step

pytestmark = pytest.mark.slow

LINES = 5
LEASE_S = 60.0
PERMISSION_S = 2.0


class RepeatedOperation(GatedOperation):
    """Makes a second call for each line, after asking again."""

    async def run(self, call: OperationCall) -> OperationResult:
        await super().run(call)
        await call.authorize()
        return await super().run(call)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"line_concurrency": 2, "lease_s": LEASE_S})


@pytest.fixture
async def relay(database_url: str) -> AsyncIterator[Relay]:
    async with relay_to(database_url) as relay:
        yield relay


@pytest.fixture
async def remote(
    relay: Relay,
    settings: Settings,
    plugin_environment: Mapping[str, str],
    clock: MovableClock,
    operations: Sequence[OperationFactory],
) -> AsyncIterator[Components]:
    """Return the components of a worker that reaches the database through the relay."""
    through_relay = settings.model_copy(update={"database_url": SecretStr(relay.url)})
    async with open_components(
        through_relay, environment=plugin_environment, clock=clock, operations=operations
    ) as opened:
        yield opened


async def create_processing_batch(caller: ApiCaller, components: Components) -> str:
    batch = await caller.create(numbered_lines(LINES), "gated")
    await step(components, batch, *TO_PROCESSING)
    return batch


async def test_no_line_is_started_on_a_permission_that_cannot_be_checked_again(
    caller: ApiCaller,
    make_caller: MakeCaller,
    components: Components,
    remote: Components,
    relay: Relay,
    clock: MovableClock,
    gated: GatedOperation,
) -> None:
    colleague = await make_caller(account=caller.user.user.account)
    batch = await create_processing_batch(caller, components)
    chunk = asyncio.create_task(step(remote, batch, Stage.CHUNK))
    await gated.wait_started(2)
    await relay.cut()
    clock.move_monotonic(PERMISSION_S)
    gated.release(LINES)
    await gated.wait_finished(2)
    await components.services.users.disable(caller.user.user.user)
    await relay.mend()
    await chunk
    assert gated.started == [1, 2]
    await step(components, batch, Stage.RESULTS)
    results = await colleague.download(batch)
    assert [line["status"] for line in results] == [200, 200, 401, 401, 401]


async def test_no_line_is_started_after_the_lease_has_expired(
    caller: ApiCaller,
    components: Components,
    remote: Components,
    relay: Relay,
    clock: MovableClock,
    gated: GatedOperation,
) -> None:
    batch = await create_processing_batch(caller, components)
    chunk = asyncio.create_task(step(remote, batch, Stage.CHUNK))
    await gated.wait_started(2)
    await relay.cut()
    clock.move_monotonic(LEASE_S)
    gated.release(LINES)
    await gated.wait_finished(2)
    await relay.mend()
    with pytest.raises(ProcessingTimeout):
        await chunk
    assert gated.started == [1, 2]
    # The two lines that finished are not run again.
    await step(components, batch, Stage.CHUNK, Stage.RESULTS)
    assert sorted(gated.started) == [1, 2, 3, 4, 5]
    assert [line["status"] for line in await caller.download(batch)] == [200] * LINES


class TestRepeatedCalls:
    @pytest.fixture
    def gated(self) -> GatedOperation:
        return RepeatedOperation()

    async def test_call_is_not_repeated_after_the_creator_was_disabled(
        self,
        caller: ApiCaller,
        components: Components,
        clock: MovableClock,
        gated: GatedOperation,
    ) -> None:
        batch = await create_processing_batch(caller, components)
        chunk = asyncio.create_task(step(components, batch, Stage.CHUNK))
        await gated.wait_started(2)
        await components.services.users.disable(caller.user.user.user)
        clock.move_monotonic(PERMISSION_S)
        gated.release(2 * LINES)
        await chunk
        assert gated.started == [1, 2]

    async def test_call_is_not_repeated_after_the_lease_has_expired(
        self,
        caller: ApiCaller,
        components: Components,
        clock: MovableClock,
        gated: GatedOperation,
    ) -> None:
        batch = await create_processing_batch(caller, components)
        chunk = asyncio.create_task(step(components, batch, Stage.CHUNK))
        await gated.wait_started(2)
        clock.move_monotonic(LEASE_S)
        gated.release(2 * LINES)
        with pytest.raises(ProcessingTimeout):
            await chunk
        assert gated.started == [1, 2]
