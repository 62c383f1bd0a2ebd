"""Fixtures for the plugins: the S3 storage, an upstream, and operations that call it."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.ports import Storage
from tests.support.http_operations import Declare, World, declaring
from tests.support.s3_storage import open_storage
from tests.support.upstream import Upstream, running_upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def declare(world: World, tmp_path: Path) -> AsyncIterator[Declare]:
    async with declaring(world, tmp_path) as declare:
        yield declare


# One client per module: creating one takes longer than most of the tests.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def storage(s3: SeaweedFS) -> AsyncIterator[Storage]:
    async with open_storage(s3) as storage:
        yield storage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that has a URL and no credentials."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def key() -> str:
    return f"tests/{uuid4()}"
