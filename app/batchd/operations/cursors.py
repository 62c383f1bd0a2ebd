"""The cursor of get_batches: the last batch of a page, encoded and opaque to callers."""

import base64
from uuid import UUID

import msgspec

from batchd.domain import commands
from batchd.domain.ids import BatchId
from batchd.operations.explanations import InvalidRequest
from batchd.operations.parsing import to_datetime


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    created_ms: int
    batch: UUID
    oldest_first: bool


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
        raise InvalidRequest(
            "/query/cursor",
            "It is not a cursor: take it from the previous page, or leave it out.",
        ) from None
    if record.oldest_first != oldest_first:
        raise InvalidRequest(
            "/query/cursor",
            "It belongs to a list in the opposite order: keep ge and le as they were.",
        )
    return cursor
