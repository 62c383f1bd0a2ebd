"""The list of an account's batches, page by page."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from batchd.db.connection import Connection
from batchd.domain.batches import Status
from batchd.domain.commands import Cursor, GetBatches
from batchd.domain.ids import AccountId, BatchId
from batchd.domain.permission import OwnerFilter

_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_BEFORE_ALL = Cursor(created_ts=_EARLIEST, batch=BatchId(UUID(int=0)))
_AFTER_ALL = Cursor(created_ts=_LATEST, batch=BatchId(UUID(int=2**128 - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    batch: BatchId
    status: Status
    created_ts: datetime


def _page(beyond: str, order: str, whose: str) -> str:
    # A keyset: the page begins beyond the last row of the one before, found by the index, whatever
    # has been added or removed since.
    return f"""
SELECT batch, status, created_ts FROM batches
WHERE account = $1 AND created_ts >= $2 AND created_ts <= $3
AND (created_ts, batch) {beyond} ($4, $5) {whose}
ORDER BY created_ts {order}, batch {order} LIMIT $6
"""


def _page_by_status(beyond: str, order: str, whose: str) -> str:
    # A page of each wanted status, merged: one filter over them all would read every row that is
    # not wanted between two that are.
    return f"""
SELECT page.batch, page.status, page.created_ts
FROM unnest($7::text[]) AS wanted (status), LATERAL (
    SELECT batch, status, created_ts, account FROM batches b
    WHERE {whose} AND b.status = wanted.status COLLATE "C"
    AND created_ts >= $2 AND created_ts <= $3 AND (created_ts, batch) {beyond} ($4, $5)
    ORDER BY created_ts {order}, batch {order} LIMIT $6
) AS page
WHERE account = $1
ORDER BY created_ts {order}, batch {order} LIMIT $6
"""


_ORDERS = {False: ("<", "DESC"), True: (">", "ASC")}
# By whether the oldest come first.
_ALL = {oldest: _page(*order, "") for oldest, order in _ORDERS.items()}
_ALL_BY_STATUS = {
    oldest: _page_by_status(*order, "account = $1") for oldest, order in _ORDERS.items()
}
# A user is of one account, which is asked about outside: named here, it would offer PostgreSQL an
# index on which the batches of one user are strewn among those of all the others.
_OWN_BY_STATUS = {
    oldest: _page_by_status(*order, "user_id = $8") for oldest, order in _ORDERS.items()
}
# No index leaves out one user: the batches between are read, and no more than that.
_OTHERS = {oldest: _page(*order, "AND user_id <> $7") for oldest, order in _ORDERS.items()}
_OTHERS_BY_STATUS = {
    oldest: _page_by_status(*order, "account = $1 AND user_id <> $8")
    for oldest, order in _ORDERS.items()
}


async def find_page(
    connection: Connection,
    account: AccountId,
    wanted: GetBatches,
    owner: OwnerFilter,
) -> tuple[list[BatchSummary], bool]:
    """Return at most `wanted.limit` batches that pass the filter, and whether there are more."""
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
    # One index serves the batches of a user: that by status. Without a filter it is read for each.
    statuses = wanted.statuses or (frozenset(Status) if owner.only is not None else frozenset())
    if statuses:
        arguments.append([str(status) for status in statuses])
    if owner.only is not None:
        queries = _OWN_BY_STATUS
        arguments.append(owner.only)
    elif owner.exclude is not None:
        queries = _OTHERS_BY_STATUS if statuses else _OTHERS
        arguments.append(owner.exclude)
    else:
        queries = _ALL_BY_STATUS if statuses else _ALL
    rows = await connection.fetch(queries[wanted.oldest_first], *arguments)
    page = [
        BatchSummary(batch=row["batch"], status=Status(row["status"]), created_ts=row["created_ts"])
        for row in rows[: wanted.limit]
    ]
    return page, len(rows) > wanted.limit
