"""Uploads: the URLs issued, and the batches created from them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg

from batchd.db.connection import Connection
from batchd.domain.batches import END_STATUSES
from batchd.domain.ids import AccountId, BatchId, Handler
from batchd.domain.permission import OwnerFilter
from batchd.domain.uploads import Upload

_COLUMNS = "handler, account, user_id, created_ts, validity_ts, invalidated_ts, batch"


def _decode(row: asyncpg.Record) -> Upload:
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


# An invalidated upload counts: the storage accepts files at its URL until that expires. The count
# stops at the limit, so that it reads no more index entries than that.
_COUNT_OPEN = """
SELECT count(*) FROM (
    SELECT FROM uploads WHERE account = $1 AND batch IS NULL AND validity_ts > now() LIMIT $2
) AS open
"""


async def count_open(connection: Connection, account: AccountId, *, limit: int) -> int:
    """Return the number of unused uploads whose URL is valid, or `limit` if there are more."""
    count: int = await connection.fetchval(_COUNT_OPEN, account, limit)
    return count


# Locked, so that an upload is never invalidated while a batch is being created from it.
_FIND_FOR_UPDATE = f"""
SELECT {_COLUMNS} FROM uploads WHERE account = $1 AND handler = $2
AND ($3::uuid IS NULL OR user_id = $3) AND ($4::uuid IS NULL OR user_id <> $4)
FOR UPDATE
"""


async def find_for_update(
    connection: Connection, account: AccountId, handler: Handler, owner: OwnerFilter
) -> Upload | None:
    """Return the upload, if it passes the filter, locked until the transaction ends."""
    row = await connection.fetchrow(_FIND_FOR_UPDATE, account, handler, owner.only, owner.exclude)
    return None if row is None else _decode(row)


_SET_BATCH = "UPDATE uploads SET batch = $2, etag = $3 WHERE handler = $1"


async def set_batch(
    connection: Connection, handler: Handler, batch: BatchId, *, etag: str | None
) -> None:
    """Record the batch that was created from the upload, and the entity tag of the file then."""
    await connection.execute(_SET_BATCH, handler, batch, etag)


_FIND_ETAG = "SELECT etag FROM uploads WHERE handler = $1"


async def find_etag(connection: Connection, handler: Handler) -> str | None:
    """Return the entity tag that the file had when its batch was created, if that is known."""
    etag: str | None = await connection.fetchval(_FIND_ETAG, handler)
    return etag


_INVALIDATE = "UPDATE uploads SET invalidated_ts = $2 WHERE handler = $1"


async def invalidate(connection: Connection, handler: Handler, *, now: datetime) -> None:
    await connection.execute(_INVALIDATE, handler, now)


# A file can be uploaded until the URL expires. That of a batch is kept for as long as a failover
# could make the batch copy it again; the file is usually gone by then, but not if the client has
# uploaded it once more. The database's clock decides: a worker's may be wrong.
_FIND_EXPIRED = f"""
(
    SELECT {_COLUMNS} FROM uploads WHERE batch IS NULL AND validity_ts < now() - $1::interval
    ORDER BY validity_ts LIMIT $4
) UNION ALL (
    SELECT {_COLUMNS} FROM uploads u
    WHERE batch IS NOT NULL AND validity_ts < now() - greatest($1, $2::interval)
    AND NOT EXISTS (
        SELECT FROM batches b
        WHERE b.batch = u.batch AND (b.status <> ALL($3) OR b.updated_ts > now() - $2)
    )
    ORDER BY validity_ts LIMIT $4
)
"""


async def find_expired(
    connection: Connection, *, tolerance: timedelta, graveyard: timedelta, limit: int
) -> Sequence[Upload]:
    """Return unused uploads and those of old batches that expired longer ago than `tolerance`.

    An old batch ended longer ago than `graveyard`, or has been deleted.
    """
    ends = [status.value for status in END_STATUSES]
    rows = await connection.fetch(_FIND_EXPIRED, tolerance, graveyard, ends, limit)
    return [_decode(row) for row in rows]


_DELETE = "DELETE FROM uploads WHERE handler = ANY($1)"


async def delete(connection: Connection, handlers: Sequence[Handler]) -> None:
    await connection.execute(_DELETE, handlers)
