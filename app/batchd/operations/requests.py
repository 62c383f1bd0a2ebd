"""Requests: a type for the path, the query and the body of each operation, and its parser.

The types parse requests, and the OpenAPI document is generated from them.
"""

import base64
import dataclasses
import re
from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from batchd.domain import commands
from batchd.domain.batches import Status
from batchd.domain.ids import BatchId, Handler
from batchd.domain.operations import OperationRequest
from batchd.operations.explanations import (
    EXPECTED,
    KEY_PATTERN,
    LIST,
    SHA256_PATTERN,
    UUID_PATTERN,
    InvalidRequest,
    one_of,
)
from batchd.operations.parsing import (
    read_body,
    read_object,
    read_path,
    read_query,
    to_datetime,
)

EXPANDABLE = ("operation", "batch_dict", "priority", "progress", "errors", "results")
MAX_PRIORITY = 100
MAX_PAGE = 1000
MAX_KEY_LENGTH = 255
_MAX_SECONDS = 253_402_300_799  # the end of the year 9999
PATTERN_END = r"(?!\n)"
"""Follows a pattern's `$`, which in Python also matches before a final line break."""
_STATUSES = tuple(status.value for status in Status)
_UUID = re.compile(UUID_PATTERN)
_KEY = re.compile(rf"[\x20-\x7e]{{1,{MAX_KEY_LENGTH}}}")


def _list_of(names: Iterable[str]) -> str:
    """Return the pattern of a comma-separated list, for OpenAPI only: it is parsed by hand."""
    one = "|".join(names)
    return f"^({one})(,({one}))*$"


_Uuid = Annotated[
    str,
    Meta(
        pattern=UUID_PATTERN + PATTERN_END,
        extra_json_schema={"format": "uuid"},
        examples=[str(UUID(int=0))],
    ),
]
_Timestamp = Annotated[
    float,
    Meta(
        ge=0,
        le=_MAX_SECONDS,
        description="Seconds since the Unix epoch.",
        extra={EXPECTED: "a number, seconds since the Unix epoch, for example 1767225600"},
    ),
]
_BatchDict: TypeAlias = dict[Annotated[str, Meta(pattern=KEY_PATTERN + PATTERN_END)], msgspec.Raw]


class BatchPath(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    batch: _Uuid


class HandlerPath(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    handler: _Uuid


class RolePath(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    role: Annotated[str, Meta(min_length=1, max_length=64, examples=["reader"])]


class NoQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


class GetBatchQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    download: bool = False
    expand: Annotated[
        str,
        Meta(
            description=f"Attributes to add, comma-separated: {', '.join(EXPANDABLE)}.",
            examples=["progress,errors"],
            extra={LIST: True},
            extra_json_schema={"pattern": f"^$|{_list_of(EXPANDABLE)}"},
        ),
    ] = ""


class GetBatchesQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    limit: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_PAGE,
            description="Maximum number of batches in the page.",
            extra={EXPECTED: f"a whole number from 1 to {MAX_PAGE}"},
        ),
    ] = MAX_PAGE
    cursor: (
        Annotated[
            str, Meta(description="From the previous page; all other parameters must be the same.")
        ]
        | UnsetType
    ) = UNSET
    ge: (
        Annotated[
            _Timestamp,
            Meta(description="Created at this time or later; without `le`, oldest first."),
        ]
        | UnsetType
    ) = UNSET
    le: Annotated[_Timestamp, Meta(description="Created at this time or earlier.")] | UnsetType = (
        UNSET
    )
    status: (
        Annotated[
            str,
            Meta(
                description="One or several statuses, comma-separated.",
                examples=["completed,cancelled"],
                extra={LIST: True},
                extra_json_schema={"pattern": _list_of(Status)},
            ),
        ]
        | UnsetType
    ) = UNSET


class CreateBatchBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    handler: _Uuid
    operation: Annotated[
        str,
        Meta(min_length=1, max_length=64, description="The operation that each line is a call of."),
    ]
    hash: (
        Annotated[
            str,
            Meta(
                pattern=SHA256_PATTERN + PATTERN_END,
                description="SHA-256 of the file; if it differs, the batch ends as hash_mismatch.",
            ),
        ]
        | UnsetType
    ) = UNSET
    batch_dict: (
        Annotated[
            msgspec.Raw,
            Meta(
                description="The caller's own attributes, returned as written by expand.",
                extra_json_schema={
                    "type": "object",
                    "propertyNames": {"pattern": KEY_PATTERN},
                },
            ),
        ]
        | UnsetType
    ) = UNSET
    priority: Annotated[
        float,  # 1.0 is an integer in JSON Schema
        Meta(
            ge=-MAX_PRIORITY,
            le=MAX_PRIORITY,
            multiple_of=1,
            description="Higher priorities run first among the batches of the account.",
            extra={EXPECTED: f"a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}"},
        ),
    ] = 0


class UpdateBatchBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    status: Literal["cancel"]


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    created_ms: int
    batch: UUID
    oldest_first: bool


def get_batch(request: OperationRequest) -> commands.GetBatch:
    batch = _batch(request)
    if not request.query:  # the usual case, in a quarter of the time
        return commands.GetBatch(batch=batch, download=False, expand=frozenset())
    query = read_query(request, GetBatchQuery)
    expand = frozenset(query.expand.split(",")) if query.expand else frozenset()
    for name in sorted(expand.difference(EXPANDABLE)):
        raise InvalidRequest("/query/expand", one_of(name, EXPANDABLE))
    return commands.GetBatch(batch=batch, download=query.download, expand=expand)


def get_batches(request: OperationRequest) -> commands.GetBatches:
    query = read_query(request, GetBatchesQuery)
    command = commands.GetBatches(
        limit=query.limit,
        cursor=None,
        ge=None if query.ge is UNSET else to_datetime(query.ge),
        le=None if query.le is UNSET else to_datetime(query.le),
        statuses=frozenset() if query.status is UNSET else _statuses(query.status),
    )
    if query.cursor is UNSET:
        return command
    cursor = decode_cursor(query.cursor, oldest_first=command.oldest_first)
    return dataclasses.replace(command, cursor=cursor)


def create_batch(request: OperationRequest) -> commands.CreateBatch:
    read_query(request, NoQuery)
    body = read_body(request, CreateBatchBody)
    key = request.idempotency_key
    if key is not None and not _KEY.fullmatch(key):
        message = f"It must have 1 to {MAX_KEY_LENGTH} printable ASCII characters."
        raise InvalidRequest("/headers/Idempotency-Key", message)
    return commands.CreateBatch(
        handler=Handler(UUID(body.handler)),
        operation=body.operation,
        hash=None if body.hash is UNSET else body.hash,
        batch_dict=None if body.batch_dict is UNSET else _batch_dict(body.batch_dict),
        priority=int(body.priority),
        idempotency_key=key,
    )


def update_batch(request: OperationRequest) -> commands.CancelBatch:
    batch = _batch(request)
    read_query(request, NoQuery)
    read_body(request, UpdateBatchBody)
    return commands.CancelBatch(batch=batch)


def delete_batch(request: OperationRequest) -> commands.DeleteBatch:
    read_query(request, NoQuery)
    return commands.DeleteBatch(batch=_batch(request))


def invalidate_upload_url(request: OperationRequest) -> commands.InvalidateUpload:
    read_query(request, NoQuery)
    return commands.InvalidateUpload(handler=Handler(UUID(read_path(request, HandlerPath).handler)))


def get_user_role(request: OperationRequest) -> commands.GetUserRole:
    read_query(request, NoQuery)
    return commands.GetUserRole(role=read_path(request, RolePath).role)


def no_parameters(request: OperationRequest) -> commands.NoParameters:
    """Parse a request of an operation that takes no parameters."""
    read_query(request, NoQuery)
    return commands.NoParameters()


def encode_cursor(cursor: commands.Cursor, *, oldest_first: bool) -> str:
    record = _Cursor(round(cursor.created_ts.timestamp() * 1000), cursor.batch, oldest_first)
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(record)).decode().rstrip("=")


def decode_cursor(text: str, *, oldest_first: bool) -> commands.Cursor:
    try:
        padded = text + "=" * (-len(text) % 4)
        record = msgspec.msgpack.decode(
            base64.b64decode(padded, altchars=b"-_", validate=True), type=_Cursor
        )
        cursor = commands.Cursor(
            created_ts=to_datetime(record.created_ms / 1000), batch=BatchId(record.batch)
        )
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest("/query/cursor", "It is not a cursor of this API.") from None
    if record.oldest_first != oldest_first:
        raise InvalidRequest(
            "/query/cursor",
            "It belongs to a list in the opposite order: keep ge and le as they were.",
        )
    return cursor


def _batch(request: OperationRequest) -> BatchId:
    batch = request.path.get("batch")
    if not isinstance(batch, str) or len(request.path) != 1 or not _UUID.fullmatch(batch):
        # Only to report what is wrong: it takes five times as long.
        batch = read_path(request, BatchPath).batch
    return BatchId(msgspec.convert(batch, UUID))


def _batch_dict(text: msgspec.Raw) -> bytes:
    """Return it as it was written: decimals and white space are the caller's."""
    read_object(bytes(text), _BatchDict, "/body/batch_dict")
    return bytes(text)


def _statuses(text: str) -> frozenset[Status]:
    names = text.split(",")
    for name in names:
        if name not in _STATUSES:
            raise InvalidRequest("/query/status", one_of(name, _STATUSES))
    return frozenset(map(Status, names))
