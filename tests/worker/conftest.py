"""The workers of these tests can also run the gated operation."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from batchd.domain.operations import Operation, OperationContext, OperationFactory
from tests.support.gated_operation import GatedOperation


@pytest.fixture
def gated() -> GatedOperation:
    return GatedOperation()


@pytest.fixture
def operations(gated: GatedOperation) -> Sequence[OperationFactory]:
    @asynccontextmanager
    async def open_operation(_: OperationContext) -> AsyncIterator[Operation]:
        yield gated

    return (open_operation,)
