"""Fixtures on top of the embedded stack: settings, components, the live API and its callers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr

from batchd.bootstrap import Components, open_components
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.ids import AccountId
from batchd.domain.operations import OperationFactory
from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.clock import MovableClock
from tests.support.live import LiveServer, running_worker

POLICIES = Path(__file__).parents[2] / "policies"

MakeCaller = Callable[..., Awaitable[ApiCaller]]


@pytest.fixture
def settings(database_url: str, s3: SeaweedFS) -> Settings:
    """Return the settings of the stack; a test that needs others overrides this fixture."""
    return Settings(
        database_url=SecretStr(database_url),
        s3_endpoint=s3.endpoint,
        s3_access_key=s3.access_key,
        s3_secret_key=SecretStr(s3.secret_key),
        s3_bucket=s3.bucket,
        policies=POLICIES,
        chunk_lines=100,
        lease_s=3.0,
        sweep_s=1.0,
    )


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def operations() -> Sequence[OperationFactory]:
    """Return what can be run in batches besides what is installed; a test may override it."""
    return ()


@pytest.fixture
async def components(
    settings: Settings, clock: MovableClock, operations: Sequence[OperationFactory]
) -> AsyncIterator[Components]:
    async with open_components(settings, clock=clock, operations=operations) as opened:
        yield opened


@pytest.fixture
async def api_url(settings: Settings, components: Components) -> AsyncIterator[str]:
    """Serve the API, and return where."""
    server = LiveServer(settings, components)
    await server.start_server()
    yield str(server.make_url("")).rstrip("/")
    await server.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def make_caller(api_url: str, components: Components, session: aiohttp.ClientSession) -> MakeCaller:
    """Return a function that makes a user and returns it as a caller."""

    async def make(role: str = "admin", *, account: AccountId | None = None) -> ApiCaller:
        user = await components.services.users.create(account=account, role=role, name="")
        return ApiCaller(session, api_url, user)

    return make


@pytest.fixture
async def caller(make_caller: MakeCaller) -> ApiCaller:
    """Return an admin of an account of its own."""
    return await make_caller()


@pytest.fixture
def worker(
    settings: Settings, components: Components
) -> Callable[[], AbstractAsyncContextManager[None]]:
    """Return a function that runs a worker for as long as its context is open."""
    return lambda: running_worker(settings, components)
