"""The servers that all tests of a process share, PostgreSQL and S3; a database for each test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import botocore.loaders
import botocore.session
import pytest
import pytest_asyncio
from xdist.remote import Producer

from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.seaweedfs import SeaweedFS, run_seaweedfs
from tests.support.databases import make_template, temporary_database
from tests.support.scheduling import ModuleScheduling

pytest_plugins = ["tests.support.fixtures", "tests.support.history"]

MEMORY = Path("/dev/shm")
"""A file system in memory, on Linux."""
POSTGRES_SPACE = 4 * 1024**3
"""What is used is a tenth of it, by each process of pytest-xdist."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ModuleScheduling:
    return ModuleScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def shared_botocore_loader() -> Iterator[None]:
    """Load botocore's service model only once: that takes longer than most of the tests."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda _: loader)
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
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="batchd-tests-") as folder:
        yield Path(folder)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(postgres_dir: Path) -> AsyncIterator[Postgres]:
    """Run the server, with a migrated database that others are cloned from."""
    async with run_postgres(postgres_dir, durable=False) as running:
        await make_template(running.url)
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def s3(stack_dir: Path) -> AsyncIterator[SeaweedFS]:
    async with run_seaweedfs(stack_dir / "s3") as running:
        yield running


@pytest.fixture
async def empty_database_url(postgres: Postgres) -> AsyncIterator[str]:
    """Return a database without any schema."""
    async with temporary_database(postgres.url, template="template0") as url:
        yield url


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncIterator[str]:
    """Return a database of its own with the whole schema."""
    async with temporary_database(postgres.url) as url:
        yield url
