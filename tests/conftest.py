"""One embedded PostgreSQL and one S3 server for all tests; a database for each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import botocore.loaders
import botocore.session
import pytest
import pytest_asyncio

from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.seaweedfs import SeaweedFS, run_seaweedfs
from tests.support.databases import make_template, temporary_database

pytest_plugins = ["tests.support.fixtures", "tests.support.history"]


@pytest.fixture(scope="session", autouse=True)
def one_loader() -> Iterator[None]:
    """Read once what the S3 client knows of S3: it takes longer than most of the tests."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda _: loader)
        yield


@pytest.fixture(scope="session")
def stack_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(stack_dir: Path) -> AsyncIterator[Postgres]:
    """Run the server, with a migrated database that others are cloned from."""
    async with run_postgres(stack_dir / "postgres", durable=False) as running:
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
