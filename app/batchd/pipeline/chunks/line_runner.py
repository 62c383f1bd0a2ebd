"""The lines of one chunk, and what becomes of them."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from batchd.domain.batches import Batch
from batchd.domain.chunks import Chunk
from batchd.domain.errors import BatchdError, OperationNotAllowed, ProcessingTimeout, Unauthorized
from batchd.domain.operations import OperationCall, OperationResult
from batchd.domain.users import Caller
from batchd.observability import logs
from batchd.pipeline import result_lines
from batchd.pipeline.chunks.reader import parse_valid, read_lines
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.line_parser import ParsedLine
from batchd.pipeline.line_reader import RawLine

_GRACE_S = 0.5
_LOOK_UP_S = 0.5
_BREATH = 100
"""Lines after which others get a turn, should the operation never wait."""
_BLOCK = 500
"""Lines of results given out together."""
_RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


class LineRunner:
    def __init__(self, context: PipelineContext, batch: Batch, chunk: Chunk) -> None:
        self._context = context
        self._batch = batch
        self._chunk = chunk
        self._key_of_batch = f"{batch.batch}:"
        self._lines: list[RawLine] = []
        self._results: list[bytes | None] = []
        self._stopping = False
        self._caller: Caller | Unauthorized | None = None
        self.counter = result_lines.Counter()

    async def load(self) -> None:
        """Read the lines; they have been found valid."""
        chunk = self._chunk
        async for found in read_lines(self._context, self._batch, chunk):
            self._lines += found
        if len(self._lines) != chunk.lines:
            raise ValueError(
                f"chunk {chunk.no} of {self._batch.batch} has {len(self._lines)} lines, "
                f"not the {chunk.lines} that were validated"
            )
        self._results = [None] * len(self._lines)

    def give_up(self, error: BatchdError) -> None:
        """Let every line fail."""
        for place, line in enumerate(self._lines):
            logs.clear_trace()
            self._record(
                place, parse_valid(line), result_lines.failure(error, line=self._key(line))
            )

    async def run(self, lost: asyncio.Event) -> None:
        """Run the lines, some at a time, until all are done or the chunk is lost."""
        await self._look_up_caller()
        waiting = iter(enumerate(self._lines))
        concurrency = min(self._context.settings.line_concurrency, len(self._lines))
        runners = asyncio.gather(*(self._run_lines(waiting) for _ in range(concurrency)))
        looking = asyncio.create_task(self._keep_looking_up_caller())
        stop = asyncio.create_task(lost.wait())
        try:
            either: list[asyncio.Future[Any]] = [runners, stop]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not runners.done():
                self._stopping = True
                await asyncio.wait([runners], timeout=_GRACE_S)
        finally:
            looking.cancel()
            stop.cancel()
            runners.cancel()
            # What was stopped is cancelled; what failed is a defect of ours, and is raised.
            with suppress(asyncio.CancelledError):
                await runners

    def results(self) -> Iterator[bytes]:
        """Give the chunk's part of the results file; what has not been run is cancelled."""
        for start in range(0, len(self._lines), _BLOCK):
            yield b"".join(
                self._cancelled(line) if result is None else result
                for line, result in zip(
                    self._lines[start : start + _BLOCK],
                    self._results[start : start + _BLOCK],
                    strict=True,
                )
            )

    def _cancelled(self, line: RawLine) -> bytes:
        self.counter.add(line.number, result_lines.CANCELLED)
        return result_lines.encode(line.number, parse_valid(line).id, result_lines.CANCELLED)

    async def _keep_looking_up_caller(self) -> None:
        """See who the creator is now: a role that was taken away counts from here on."""
        while True:
            await asyncio.sleep(_LOOK_UP_S)
            with suppress(ProcessingTimeout):
                await self._look_up_caller()

    async def _look_up_caller(self) -> None:
        try:
            self._caller = await self._context.users.current(self._batch.user)
        except Unauthorized as error:
            self._caller = error

    async def _run_lines(self, waiting: Iterator[tuple[int, RawLine]]) -> None:
        for place, line in waiting:
            if self._stopping:
                return
            if place and place % _BREATH == 0:
                await asyncio.sleep(0)
            parsed = parse_valid(line)
            self._record(place, parsed, await self._run_line(line, parsed))

    async def _run_line(self, line: RawLine, parsed: ParsedLine) -> OperationResult:
        """Run it as its creator, again if batchd itself was not able to."""
        logs.clear_trace()
        for delay_s in _RETRY_DELAYS_S:
            try:
                return await self._call(line, parsed)
            except ProcessingTimeout:
                await asyncio.sleep(delay_s)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the line's outcome
                return result_lines.failure(error, line=self._key(line))
        silence = ProcessingTimeout("The database or the storage did not answer for a long time.")
        return result_lines.failure(silence, line=self._key(line))

    async def _call(self, line: RawLine, parsed: ParsedLine) -> OperationResult:
        name = self._batch.operation
        operation = self._context.operations.find(name)
        if operation is None:
            raise OperationNotAllowed(f"'{name}' can no longer be run in batches.")
        if not isinstance(self._caller, Caller):
            raise self._caller or Unauthorized("The creator of the batch is not known.")
        await self._context.permissions.authorize(self._caller, name, self._batch)
        call = OperationCall(caller=self._caller, request=parsed.request, key=self._key(line))
        return await operation.run(call)

    def _key(self, line: RawLine) -> str:
        return f"{self._key_of_batch}{line.number}"

    def _record(self, place: int, parsed: ParsedLine, answer: OperationResult) -> None:
        number = self._lines[place].number
        self._results[place] = result_lines.encode(number, parsed.id, answer)
        self.counter.add(number, answer)
