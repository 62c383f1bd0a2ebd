"""What can be run in batches: the port that an operation plugin implements."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias, runtime_checkable

import msgspec

from batchd.domain.errors import BatchdError
from batchd.domain.users import Caller


class WrittenFloat(float):
    """A float that `str` returns as it was written in JSON: `12.50`, `1e3`."""

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number._text = text
        return number

    def __str__(self) -> str:
        return self._text


class OperationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one call: strings from HTTP, or JSON values from a batch line.

    A struct, like OperationCall: every line creates both, and a struct is created faster.
    """

    path: Mapping[str, object] = {}
    query: Mapping[str, object] = {}
    """Numbers of a batch line that are not integers are of type `WrittenFloat`."""
    body: bytes | BatchdError | None = None
    """JSON text, kept as written. From HTTP: not checked yet, or the error in its place.

    From a batch line: an object in valid JSON and UTF-8.
    """
    idempotency_key: str | None = None
    """HTTP only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationIssue:
    """Why a line can't be run."""

    code: str
    pointer: str
    """JSON Pointer (RFC 6901) into the line; empty for the line as a whole."""
    message: str


HTTP_STATUSES = range(100, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """The response that a direct call would have got."""

    status: int
    body: bytes
    """JSON text in UTF-8, without line breaks."""

    success: bool | None = None
    """Whether the call succeeded, by the operation's own rule; None: decided by the status."""

    def __post_init__(self) -> None:
        """Raise ValueError for a status that the API's clients would refuse in line counts."""
        if self.status not in HTTP_STATUSES:
            raise ValueError(f"{self.status} is not an HTTP status, which are 100 to 599")

    @property
    def succeeded(self) -> bool:
        return self.status < 400 if self.success is None else self.success


class OperationCall(msgspec.Struct, frozen=True, kw_only=True):
    """One line, ready to run."""

    caller: Caller
    """The batch's creator, with its current role."""
    request: OperationRequest
    key: str
    """The idempotency key: the same on every attempt at this line, and unique to it."""
    authorize: Callable[[], Awaitable[object]]
    """Await it right before each external call, above all before a retry: the creator may have lost
    the permission, or the worker its claim, since the line was started.

    Raises the error that the line fails with, and CancelledError if the line must end without a
    result."""
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    """Await it to wait so many seconds between two calls.

    Raises CancelledError as soon as the line must end, which need not wait for the pause."""


class UpstreamUnavailable(Exception):
    """Raised by `Operation.run`: what the line calls can't be called now, so the line waits.

    Only for a line that may be called again: one that has had no call yet, or only calls that the
    operation repeats. The line gets no result. Its chunk is released, with its finished lines as a
    checkpoint, and is claimed again after `retry_after_s`, however often this happens: the
    operation decides when to give up. The message is for operators.
    """

    def __init__(self, reason: str, *, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Operation(Protocol):
    """An operation that can be run in batches, named like its permission."""

    @property
    def name(self) -> str: ...

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        """Return the issues for which a direct call would be refused; no side effects."""
        ...

    async def run(self, call: OperationCall) -> OperationResult:
        """Make the call. An exception becomes a failed line with status 500.

        After ProcessingTimeout the call is made again: raise it only if it had no effect.
        After UpstreamUnavailable the worker releases the chunk, and runs others meanwhile.
        """
        ...


@runtime_checkable
class ChecksUpstream(Operation, Protocol):
    """An operation that knows whether its lines would have to wait, before one is started."""

    def check_upstream(self) -> None:
        """Raise UpstreamUnavailable if no line of the operation can be run now."""
        ...


@runtime_checkable
class HasChunkSize(Operation, Protocol):
    """An operation that determines the size of its chunks: a slow one should have small chunks."""

    @property
    def chunk_lines(self) -> int | None:
        """Maximum number of lines in a chunk; None means the value of the setting."""
        ...


class OperationSource(Protocol):
    """Operations that may change while the process runs, even while their lines run."""

    def find(self, name: str) -> Operation | None: ...

    def names(self) -> Iterable[str]: ...


def error_result(error: BatchdError, trace: str, *, help_url: str | None = None) -> OperationResult:
    """Return the failure in the form of the contract."""
    # A header that is not UTF-8, which a description may quote, has half surrogate pairs.
    description = error.description.encode(errors="backslashreplace").decode()
    body = {"subcode": error.subcode, "trace": trace, "description": description}
    if help_url is not None:
        body["help"] = help_url
    return OperationResult(status=error.status, body=msgspec.json.encode(body))


class RateLimiter(Protocol):
    """Bounds the rate of external calls of all workers together."""

    async def acquire(self, name: str, per_s: float) -> None:
        """Wait until one more call may be made, of `per_s` a second that have this name.

        It keeps waiting during an outage of the database, without which there is no common bound.
        """
        ...


class MemoryBudget(Protocol):
    """Bounds the memory for the responses of all calls of one process."""

    async def acquire(self, size: int) -> None:
        """Wait until this many bytes are free; `release` them after the call."""
        ...

    def release(self, size: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationContext:
    """What the factory of an operation or of an operation source gets."""

    environment: Mapping[str, str]
    """The process's variables without the core's own: a plugin reads its settings from it."""
    rate: RateLimiter
    memory: MemoryBudget
    is_reserved: Callable[[str], bool]
    """Whether a source must not use a name because another operation or permission has it."""
    help_base: str | None = None
    """Base of the URLs in the errors' `help`: an error's name is appended."""


OperationFactory: TypeAlias = Callable[[OperationContext], AbstractAsyncContextManager[Operation]]
"""What an entry point of the group `batchd.operations` names."""

OperationSourceFactory: TypeAlias = Callable[
    [OperationContext], AbstractAsyncContextManager[OperationSource]
]
"""What an entry point of the group `batchd.operation_sources` names."""
