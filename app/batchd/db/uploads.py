"""Uploads: URLs handed out, and what became of them."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from batchd.db.connection import Connection
from batchd.domain.ids import AccountId, BatchId, Handler
from batchd.domain.permission import OwnerFilter
from batchd.domain.uploads import Upload

_COLUMNS = "handler, account, user_id, created_ts, validity_ts, invalidated_ts, batch"


def _upload(row: asyncpg.Record) -> Upload:
    return Upload(
        handler=row["handler"],
        account=row["account"],
        user=row["user_id"],
        created_ts=row["created_ts"],
        validity_ts=row["validity_ts"],
        invalidated_ts=row["invalidated_ts"],
        batch=row["batch"],
    )


_INSERT = """
INSERT INTO uploads (handler, account, user_id, created_ts, validity_ts) VALUES ($1, $2, $3, $4, $5)
"""


async def insert(connection: Connection, upload: Upload) -> None:
    await connection.execute(
        _INSERT,
        upload.handler,
        upload.account,
        upload.user,
        upload.created_ts,
        upload.validity_ts,
    )


# Locked: a batch is made of it, or it is invalidated, but never both at once.
_FIND_FOR_UPDATE = f"""
SELECT {_COLUMNS} FROM uploads WHERE account = $1 AND handler = $2
AND ($3::uuid IS NULL OR user_id = $3) AND ($4::uuid IS NULL OR user_id <> $4)
FOR UPDATE
"""


async def find_for_update(
    connection: Connection, account: AccountId, handler: Handler, owner: OwnerFilter
) -> Upload | None:
    """Return the upload, if it passes the filter, and lock it until the transaction ends."""
    row = await connection.fetchrow(_FIND_FOR_UPDATE, account, handler, owner.only, owner.exclude)
    return None if row is None else _upload(row)


_SET_BATCH = "UPDATE uploads SET batch = $2 WHERE handler = $1"


async def set_batch(connection: Connection, handler: Handler, batch: BatchId) -> None:
    await connection.execute(_SET_BATCH, handler, batch)


_INVALIDATE = "UPDATE uploads SET invalidated_ts = $2 WHERE handler = $1"


async def invalidate(connection: Connection, handler: Handler, *, now: datetime) -> None:
    await connection.execute(_INVALIDATE, handler, now)


# A URL may be used until its last second, so the file can appear until then. The copy of a batch
# that is still being made is read from it: those wait.
_EXPIRED = f"""
SELECT {_COLUMNS} FROM uploads u WHERE validity_ts < $1
AND NOT EXISTS (
    SELECT FROM batches b WHERE b.batch = u.batch AND b.status IN ('new', 'copying')
)
ORDER BY validity_ts LIMIT $2
"""


async def find_expired(connection: Connection, *, before: datetime, limit: int) -> Sequence[Upload]:
    return [_upload(row) for row in await connection.fetch(_EXPIRED, before, limit)]


_DELETE = "DELETE FROM uploads WHERE handler = ANY($1)"


async def delete(connection: Connection, handlers: Sequence[Handler]) -> None:
    await connection.execute(_DELETE, handlers)
