"""The list of an account's batches, page by page."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from batchd.db.connection import Connection
from batchd.domain.batches import Status
from batchd.domain.forms import Cursor, GetBatches
from batchd.domain.ids import AccountId, BatchId

_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_BEFORE_ALL = Cursor(created_ts=_EARLIEST, batch=BatchId(UUID(int=0)))
_AFTER_ALL = Cursor(created_ts=_LATEST, batch=BatchId(UUID(int=2**128 - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    batch: BatchId
    status: Status
    created_ts: datetime


def _page(beyond: str, order: str) -> str:
    # A keyset: the page begins beyond the last row of the one before, found by the index, whatever
    # has been added or removed since.
    return f"""
SELECT batch, status, created_ts FROM batches
WHERE account = $1 AND created_ts >= $2 AND created_ts <= $3
AND (created_ts, batch) {beyond} ($4, $5)
ORDER BY created_ts {order}, batch {order} LIMIT $6
"""


def _page_by_status(beyond: str, order: str) -> str:
    # A page of each wanted status, merged: one filter over them all would read every row that is
    # not wanted between two that are.
    return f"""
SELECT page.* FROM unnest($7::text[]) AS wanted (status), LATERAL (
    SELECT batch, status, created_ts FROM batches b
    WHERE account = $1 AND b.status = wanted.status COLLATE "C"
    AND created_ts >= $2 AND created_ts <= $3 AND (created_ts, batch) {beyond} ($4, $5)
    ORDER BY created_ts {order}, batch {order} LIMIT $6
) AS page
ORDER BY created_ts {order}, batch {order} LIMIT $6
"""


_NEWEST_FIRST = _page("<", "DESC")
_OLDEST_FIRST = _page(">", "ASC")
_NEWEST_FIRST_BY_STATUS = _page_by_status("<", "DESC")
_OLDEST_FIRST_BY_STATUS = _page_by_status(">", "ASC")


async def find_page(
    connection: Connection, account: AccountId, wanted: GetBatches
) -> tuple[list[Listed], bool]:
    """Return at most `wanted.limit` batches, and whether there are more."""
    cursor = wanted.cursor or (_BEFORE_ALL if wanted.oldest_first else _AFTER_ALL)
    ge, le = wanted.ge or _EARLIEST, wanted.le or _LATEST
    # The same rows, but PostgreSQL begins to read at one of the bounds, which need not be the
    # cursor: from a looser one it would walk through the index entries of all the pages before.
    if wanted.oldest_first:
        ge = max(ge, cursor.created_ts)
    else:
        le = min(le, cursor.created_ts)
    arguments: list[object] = [
        account,
        ge,
        le,
        cursor.created_ts,
        cursor.batch,
        wanted.limit + 1,
    ]
    if wanted.statuses:
        query = _OLDEST_FIRST_BY_STATUS if wanted.oldest_first else _NEWEST_FIRST_BY_STATUS
        arguments.append([str(status) for status in wanted.statuses])
    else:
        query = _OLDEST_FIRST if wanted.oldest_first else _NEWEST_FIRST
    rows = await connection.fetch(query, *arguments)
    page = [
        Listed(batch=row["batch"], status=Status(row["status"]), created_ts=row["created_ts"])
        for row in rows[: wanted.limit]
    ]
    return page, len(rows) > wanted.limit
