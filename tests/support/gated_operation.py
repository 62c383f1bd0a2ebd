"""An operation that the tests hold in their hands: its lines end when they are let."""

import asyncio
from collections.abc import Sequence

import msgspec

from batchd.domain.operations import (
    OperationCall,
    OperationRequest,
    OperationResult,
    ValidationIssue,
)
from tests.support.callers import lines_of
from tests.support.polling import eventually


class Gated:
    """Answers each line with its path, but not before it is let."""

    name = "gated"

    def __init__(self) -> None:
        self.begun: list[int] = []
        """Line numbers."""
        self.batches: list[str] = []
        """Of the lines in `begun`."""
        self.ended: list[int] = []
        self._let = asyncio.Semaphore(0)

    def check(self, parts: OperationRequest) -> Sequence[ValidationIssue]:
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        batch, _, number_text = call.key.rpartition(":")
        number = int(number_text)
        self.begun.append(number)
        self.batches.append(batch)
        await self._let.acquire()
        self.ended.append(number)
        return OperationResult(status=200, body=msgspec.json.encode(call.request.path))

    def let(self, lines: int) -> None:
        """Let so many lines end."""
        for _ in range(lines):
            self._let.release()

    async def until_begun(self, lines: int) -> None:
        async def begun() -> int:
            return len(self.begun)

        await eventually(begun, lambda seen: seen >= lines)

    async def until_ended(self, lines: int) -> None:
        async def ended() -> int:
            return len(self.ended)

        await eventually(ended, lambda seen: seen >= lines)


def numbered_lines(count: int, *, padding: int = 0) -> bytes:
    """Return a batch file whose lines know their numbers, by id and path."""
    query = {"padding": "x" * padding}
    return lines_of(
        *({"id": f"n{n}", "path": {"n": n}, "query": query} for n in range(1, count + 1))
    )
