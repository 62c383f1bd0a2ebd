"""What the tests of the HTTP operations share: an upstream, and a way to declare what calls it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.http_operations import Declare, World, declaring
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
    async with declaring(world, tmp_path) as opened:
        yield opened
