"""HTTP operations without the rest of batchd: declared by a test, on time and chance of its own."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from batchd.domain.ids import AccountId, UserId
from batchd.domain.operations import OperationCall, OperationRequest, OperationResult
from batchd.domain.users import Caller
from batchd.plugins.http_operations import HttpOperations
from batchd.plugins.http_operations.client import open_client
from batchd.plugins.http_operations.operation import Dependencies
from batchd.plugins.http_operations.retry import RetryTiming
from batchd.services.memory_budget import ProcessMemoryBudget

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
CALLER = Caller(account=AccountId(UUID(int=1)), user=UserId(UUID(int=2)), role="admin")

GET = """
[operations.op]
method = "GET"
url = "${BASE}/a/{x}"
"""
OP = '[operations.op]\nmethod = "POST"\n'
URL = 'url = "http://127.0.0.1:9/a/{x}"\n'
GOOD = OP + URL

Declare: TypeAlias = Callable[..., Awaitable[HttpOperations]]
"""Takes the text of the file, and environment variables by keyword."""


@dataclass
class World:
    """The world that the operations see: time passes in pauses only, and randomness is fixed."""

    waits_s: list[float] = field(default_factory=list)
    acquired: list[tuple[str, float]] = field(default_factory=list)
    chance: float = 0.5
    elapsed_s: float = 0.0
    memory: ProcessMemoryBudget = field(default_factory=lambda: ProcessMemoryBudget(1024**3))

    @property
    def timing(self) -> RetryTiming:
        return RetryTiming(
            pause=self._pause,
            jitter=lambda: self.chance,
            now=lambda: NOW,
            monotonic=lambda: self.elapsed_s,
        )

    async def _pause(self, _: OperationCall, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.elapsed_s += seconds

    async def acquire(self, name: str, per_s: float) -> None:
        self.acquired.append((name, per_s))


def declaring(world: World, folder: Path) -> AbstractAsyncContextManager[Declare]:
    """Return a function that makes a file take effect."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Declare]:
        async with open_client() as client:
            dependencies = Dependencies(
                client=client, rate=world, memory=world.memory, timing=world.timing
            )

            async def declare(
                text: str, *, reserved: Collection[str] = (), **variables: str
            ) -> HttpOperations:
                file = folder / "operations.toml"
                file.write_text(text)
                source = HttpOperations(
                    file, dependencies, variables=variables, is_reserved=reserved.__contains__
                )
                source.load()
                return source

            yield declare

    return opened()


def request_of(*, body: Mapping[str, Any] | None = None, **parts: Any) -> OperationRequest:
    """Return the request of a line; a body is passed on as JSON text."""
    text = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    return OperationRequest(body=text, **parts)


async def authorized() -> None:
    """Let the call be made."""


def call_of(
    *,
    key: str = "b:1",
    authorize: Callable[[], Awaitable[object]] = authorized,
    **parts: Any,
) -> OperationCall:
    return OperationCall(caller=CALLER, request=request_of(**parts), key=key, authorize=authorize)


async def run(source: HttpOperations, name: str = "op", **parts: Any) -> OperationResult:
    operation = source.find(name)
    assert operation is not None
    return await operation.run(call_of(**parts))


def body(data: bytes) -> Any:
    """Return the JSON of a response body, which is on one line."""
    assert b"\n" not in data
    return json.loads(data)
