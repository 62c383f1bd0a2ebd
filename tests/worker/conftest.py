"""Workers here can run one more operation, which waits for the test."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from batchd.domain.operations import Operation, OperationContext, OperationFactory
from tests.support.gated_operation import Gated


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def operations(gated: Gated) -> Sequence[OperationFactory]:
    @asynccontextmanager
    async def opened(_: OperationContext) -> AsyncIterator[Operation]:
        yield gated

    return (opened,)
