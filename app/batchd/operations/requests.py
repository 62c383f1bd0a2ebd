"""The parser of each operation, which creates a command from the parts of a request."""

import dataclasses
import re
from uuid import UUID

import msgspec
from msgspec import UNSET

from batchd.domain import commands
from batchd.domain.batches import Status
from batchd.domain.ids import BatchId, Handler
from batchd.domain.json_text import pointer_token
from batchd.domain.operations import OperationRequest
from batchd.operations.cursors import decode_cursor
from batchd.operations.explanations import (
    KEY_PATTERN,
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
from batchd.operations.request_schemas import (
    EXPANDABLE,
    MAX_KEY_LENGTH,
    BatchPath,
    CreateBatchBody,
    GetBatchesQuery,
    GetBatchQuery,
    HandlerPath,
    NoQuery,
    RolePath,
    UpdateBatchBody,
)

_STATUSES = tuple(status.value for status in Status)
_UUID = re.compile(UUID_PATTERN)
_DICT_KEY = re.compile(KEY_PATTERN.removeprefix("^").removesuffix("$"))
_DICT_KEY_MUST = "A key must have 1 to 64 of a-z, 0-9 and _, and not begin with a digit."
_KEY = re.compile(rf"[\x20-\x7e]{{1,{MAX_KEY_LENGTH}}}")


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


def _batch(request: OperationRequest) -> BatchId:
    batch = request.path.get("batch")
    if not isinstance(batch, str) or len(request.path) != 1 or not _UUID.fullmatch(batch):
        # Only to report what is wrong: it takes five times as long.
        batch = read_path(request, BatchPath).batch
    return BatchId(msgspec.convert(batch, UUID))


def _batch_dict(text: msgspec.Raw) -> bytes:
    """Return it as it was written: decimals and white space are the caller's."""
    members = read_object(bytes(text), dict[str, msgspec.Raw], "/body/batch_dict")
    for name in members:
        if not _DICT_KEY.fullmatch(name):
            raise InvalidRequest(f"/body/batch_dict/{pointer_token(name)}", _DICT_KEY_MUST)
    return bytes(text)


def _statuses(text: str) -> frozenset[Status]:
    names = text.split(",")
    for name in names:
        if name not in _STATUSES:
            raise InvalidRequest("/query/status", one_of(name, _STATUSES))
    return frozenset(map(Status, names))
