"""An operation whose lines finish only when the test releases them."""

import asyncio
from collections.abc import Sequence

import msgspec

from batchd.domain.operations import (
    OperationCall,
    OperationRequest,
    OperationResult,
    UpstreamUnavailable,
    ValidationIssue,
)
from tests.support.callers import lines_of
from tests.support.polling import eventually


class GatedOperation:
    """Returns the path of each line, after the line is released."""

    name = "gated"

    def __init__(self) -> None:
        self.started: list[int] = []
        """Line numbers, in the order of the calls."""
        self.started_batches: list[str] = []
        """The batches of the lines in `started`."""
        self.finished: list[int] = []
        """Line numbers, in the order of the results."""
        self.unavailable: UpstreamUnavailable | None = None
        """What the lines that are not started yet raise."""
        self._released = asyncio.Semaphore(0)

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        batch, _, number_text = call.key.rpartition(":")
        number = int(number_text)
        if self.unavailable is not None:
            raise self.unavailable
        self.started.append(number)
        self.started_batches.append(batch)
        await self._released.acquire()
        self.finished.append(number)
        return OperationResult(status=200, body=msgspec.json.encode(call.request.path))

    def release(self, lines: int) -> None:
        """Let this many lines finish."""
        for _ in range(lines):
            self._released.release()

    async def wait_started(self, lines: int) -> None:
        async def count() -> int:
            return len(self.started)

        await eventually(count, lambda started: started >= lines)

    async def wait_finished(self, lines: int) -> None:
        async def count() -> int:
            return len(self.finished)

        await eventually(count, lambda finished: finished >= lines)


def numbered_lines(count: int, *, padding: int = 0) -> bytes:
    """Return a batch file whose lines contain their numbers, in the id and the path."""
    query = {"padding": "x" * padding}
    return lines_of(
        *({"id": f"n{n}", "path": {"n": n}, "query": query} for n in range(1, count + 1))
    )
