"""The requests in their parsed form, and the promise to parse one."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, TypeVar

import msgspec

from batchd.domain.batches import Status
from batchd.domain.ids import BatchId, Handler

T = TypeVar("T")

Form: TypeAlias = Callable[[], T]
"""A request not looked at yet. Calling it parses it, or raises RequestFormat, NotAValidJson,
InvalidCharacters or QuotaViolation. Services call it after they have checked the permission: that
keeps the contract's order of checks (403 before 400) in one place."""


class GetBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A struct, like all that each look at a batch makes: it is made in a tenth of the time."""

    batch: BatchId
    download: bool
    expand: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last batch of the page before."""

    created_ts: datetime
    batch: BatchId


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBatches:
    limit: int
    cursor: Cursor | None
    ge: datetime | None
    le: datetime | None
    statuses: frozenset[Status]
    """Empty: all."""

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
