"""The commands: what a caller requests, parsed and valid in form."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar

import msgspec

from batchd.domain.batches import Status
from batchd.domain.errors import BatchdError
from batchd.domain.ids import BatchId, Handler

T = TypeVar("T")

Parsed: TypeAlias = T | BatchdError
"""A command, or why the request could not be parsed (RequestFormat, NotAValidJson,
InvalidCharacters or QuotaViolation). An error is a value here because the contract checks the
permission (403) before the form of a request (400): services authorize first and call `valid` next.
"""


def valid(command: Parsed[T]) -> T:
    """Return the command. Raises the error that takes its place."""
    if isinstance(command, BatchdError):
        raise command
    return command


class GetBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A struct, like everything that each status read creates: ten times faster to create."""

    batch: BatchId
    download: bool
    expand: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last batch of the previous page."""

    created_ts: datetime
    batch: BatchId


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBatches:
    limit: int
    cursor: Cursor | None
    ge: datetime | None
    le: datetime | None
    statuses: frozenset[Status]
    """Empty means all."""

    @property
    def oldest_first(self) -> bool:
        return self.ge is not None and self.le is None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateBatch:
    handler: Handler
    operation: str
    hash: str | None
    batch_dict: bytes | None
    """JSON text of an object, keys in the order given."""
    priority: int
    """Among the batches of its account, higher ones run first."""
    idempotency_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelBatch:
    batch: BatchId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteBatch:
    batch: BatchId


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidateUpload:
    handler: Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class GetUserRole:
    role: str


@dataclass(frozen=True, slots=True)
class NoParameters:
    """The command of an operation that takes no parameters."""
