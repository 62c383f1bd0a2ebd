"""What all tests of a process share, PostgreSQL and S3 above all; a database for each test."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import botocore.hooks
import botocore.loaders
import botocore.regions
import botocore.session
import hypothesis
import pytest
import pytest_asyncio
from botocore.client import ClientCreator
from botocore.hooks import EventAliaser, HierarchicalEmitter
from xdist.remote import Producer

from batchd import file_watcher
from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.seaweedfs import SeaweedFS, run_seaweedfs
from batchd.operations.openapi.document import document
from batchd.operations.table import OPERATIONS
from tests.support.databases import DatabaseServer, connected, make_template
from tests.support.leftovers import remove_leftovers
from tests.support.scheduling import ModuleScheduling, longest_first

# How long examples take, to be generated or to run, depends on the machine.
hypothesis.settings.register_profile(
    "default", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("default")
hypothesis.settings.register_profile("fuzz", max_examples=2_000)

pytest_plugins = ["tests.support.fixtures", "tests.support.history"]

MEMORY = Path("/dev/shm")
"""A file system in memory, on Linux."""
PREFIX = "batchd-tests-"
POSTGRES_SPACE = 4 * 1024**3
"""What is used is a tenth of it, by each process of pytest-xdist."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ModuleScheduling:
    return ModuleScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = longest_first(items)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return a process for each core; two for the slow tests, which wait for other processes."""
    cores = os.cpu_count() or 1
    return 2 * cores if config.option.markexpr == "slow" else cores


@pytest.fixture(scope="session", autouse=True)
def computed_only_once() -> Iterator[None]:
    """Compute only once what would take longer than most of the tests.

    Of botocore: the model, the methods and the endpoint rules of a service, what its 120 event
    handlers accept and how their events are named. Of batchd: the OpenAPI document.
    """
    loader = botocore.loaders.create_loader()
    providers: dict[int, object] = {}
    methods: dict[str, dict[str, object]] = {}
    new_provider = botocore.regions.EndpointProvider  # type: ignore[attr-defined]
    create_methods = ClientCreator._create_methods  # type: ignore[attr-defined]

    def provider(**arguments: Any) -> object:
        rules = id(arguments["ruleset_data"])  # the loader keeps them
        if rules not in providers:
            providers[rules] = new_provider(**arguments)
        return providers[rules]

    def methods_of(creator: ClientCreator, model: Any) -> dict[str, object]:
        if model.service_name not in methods:
            methods[model.service_name] = create_methods(creator, model)
        return dict(methods[model.service_name])

    names = EventAliaser(HierarchicalEmitter())
    alias = cache(partial(EventAliaser._alias_event_name, names))  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda _: loader)
        patch.setattr(botocore.hooks, "accepts_kwargs", cache(botocore.hooks.accepts_kwargs))
        patch.setattr(EventAliaser, "_alias_event_name", lambda _, name: alias(name))
        patch.setattr(
            botocore.hooks.NodeList, "__copy__", lambda node: type(node)(*map(list, node))
        )
        patch.setattr(botocore.regions, "EndpointProvider", provider)
        patch.setattr(ClientCreator, "_create_methods", methods_of)
        documents = {id(OPERATIONS): document(OPERATIONS)}
        patch.setattr(
            "batchd.api.app.document",
            lambda operations: documents.get(id(operations)) or document(operations),
        )
        yield


@pytest.fixture(scope="session", autouse=True)
def watchers_that_stop_at_once() -> Iterator[None]:
    """Let no test wait at its end for the thread that watches the policy files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_watcher, "STEP_MS", 5)
        yield


@pytest.fixture(scope="session")
def stack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
def postgres_dir(stack_dir: Path) -> Iterator[Path]:
    """Yield a folder in memory, where databases are cloned much faster, if there is room for it."""
    try:
        in_memory = shutil.disk_usage(MEMORY).free >= POSTGRES_SPACE
    except OSError:
        in_memory = False
    if not in_memory:
        yield stack_dir / "postgres"
        return
    remove_leftovers(MEMORY, PREFIX)
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix=PREFIX) as folder:
        yield Path(folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(postgres_dir: Path) -> AsyncIterator[Postgres]:
    """Run the server, with a migrated database that others are cloned from."""
    async with run_postgres(postgres_dir, durable=False) as running:
        await make_template(running.url)
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def database_server(postgres: Postgres) -> AsyncIterator[DatabaseServer]:
    async with connected(postgres.url) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3(stack_dir: Path) -> AsyncIterator[SeaweedFS]:
    async with run_seaweedfs(stack_dir / "s3") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def empty_database_url(database_server: DatabaseServer) -> AsyncIterator[str]:
    """Return a database without any schema."""
    async with database_server.temporary_database(template="template0") as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(database_server: DatabaseServer) -> AsyncIterator[str]:
    """Return a database of its own with the whole schema."""
    async with database_server.temporary_database() as url:
        yield url
