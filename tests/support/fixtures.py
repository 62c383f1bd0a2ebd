"""Fixtures on top of the embedded stack: settings, components, the live API and its callers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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
from tests.support.command import core_variables, environment
from tests.support.live import LiveServer, running_worker, server_on_uvloop
from tests.support.s3_storage import s3_variables

POLICIES = Path(__file__).parents[2] / "policies"

MakeCaller = Callable[..., Awaitable[ApiCaller]]


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Return the settings of the core; a test that needs others overrides this fixture."""
    return Settings(
        database_url=SecretStr(database_url),
        chunk_lines=100,
        worker_grace_s=0.5,
        lease_s=3.0,
        sweep_s=1.0,
        graveyard_s=0.0,
    )


@pytest.fixture
def plugin_environment(s3: SeaweedFS) -> Mapping[str, str]:
    """Return the variables of the plugins; a test that needs others overrides this fixture."""
    return {**s3_variables(s3), "BATCHD_POLICIES": str(POLICIES)}


@pytest.fixture
def process_environment(
    settings: Settings, plugin_environment: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the environment with which a process has the same settings."""
    return {**environment(), **plugin_environment, **core_variables(settings)}


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def operations() -> Sequence[OperationFactory]:
    """Return what can be run in batches besides what is installed; a test may override it."""
    return ()


@pytest.fixture
async def components(
    settings: Settings,
    plugin_environment: Mapping[str, str],
    clock: MovableClock,
    operations: Sequence[OperationFactory],
) -> AsyncIterator[Components]:
    async with open_components(
        settings, environment=plugin_environment, clock=clock, operations=operations
    ) as opened:
        yield opened


@pytest.fixture
async def api_url(settings: Settings, components: Components) -> AsyncIterator[str]:
    """Serve the API, and return its URL."""
    server = LiveServer(settings, components)
    await server.start_server()
    yield str(server.make_url("")).rstrip("/")
    await server.close()


@pytest.fixture(params=["asyncio", "uvloop"])
async def url_on_each_loop(
    request: pytest.FixtureRequest,
    settings: Settings,
    plugin_environment: Mapping[str, str],
    components: Components,
    clock: MovableClock,
) -> AsyncIterator[str]:
    """Serve the API on the tests' event loop, then on that of `batchd api`; return its URL."""
    if request.param == "uvloop":
        with server_on_uvloop(settings, plugin_environment, clock) as url:
            yield url
        return
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
    """Return a function that creates a user and returns it as a caller."""

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
