"""Operations of the company's own HTTP API, declared in a file without any Python."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from batchd.configuration import read_settings
from batchd.domain.operations import Operation, OperationContext, OperationSource
from batchd.plugins.http_operations.client import open_client
from batchd.plugins.http_operations.errors import InvalidOperationsFile
from batchd.plugins.http_operations.loader import declared_names
from batchd.plugins.http_operations.operation import Dependencies
from batchd.plugins.http_operations.retry import RetryTiming
from batchd.plugins.http_operations.settings import HttpOperationsSettings
from batchd.plugins.http_operations.source import HttpOperations

__all__ = ["HttpOperations", "InvalidOperationsFile", "http_operations"]


class _NoOperations:
    def find(self, name: str) -> Operation | None:  # noqa: ARG002  # the protocol's parameter
        return None

    def names(self) -> Iterable[str]:
        return ()


def operation_names(environment: Mapping[str, str]) -> frozenset[str] | None:
    """Return the names in the operations file, valid or not; None if no file is configured.

    Raises InvalidOperationsFile.
    """
    file = read_settings(HttpOperationsSettings, environment).operations
    return None if file is None else declared_names(file)


@asynccontextmanager
async def http_operations(context: OperationContext) -> AsyncIterator[OperationSource]:
    """Open the operations of the file BATCHD_OPERATIONS. Raises InvalidOperationsFile."""
    file = read_settings(HttpOperationsSettings, context.environment).operations
    if file is None:
        yield _NoOperations()
        return
    async with open_client() as client:
        dependencies = Dependencies(
            client=client,
            rate=context.rate,
            memory=context.memory,
            timing=RetryTiming(),
            help_base=context.help_base,
        )
        source = HttpOperations(
            file, dependencies, variables=context.environment, is_reserved=context.is_reserved
        )
        await asyncio.to_thread(source.load)
        async with source.watch():
            yield source
