"""Pages of an account's batches, by keyset pagination."""

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


def _page(comparison: str, order: str, user_filter: str) -> str:
    # Keyset pagination: the page starts after the last row of the previous page, located by the
    # index, no matter which rows have been inserted or deleted since.
    return f"""
SELECT batch, status, created_ts FROM batches
WHERE account = $1 AND created_ts >= $2 AND created_ts <= $3
AND (created_ts, batch) {comparison} ($4, $5) {user_filter}
ORDER BY created_ts {order}, batch {order} LIMIT $6
"""


def _page_by_status(comparison: str, order: str, owner_filter: str) -> str:
    # One page per requested status, merged: a single filter on all statuses would read every row
    # in between that does not match.
    return f"""
SELECT page.batch, page.status, page.created_ts
FROM unnest($7::text[]) AS requested (status), LATERAL (
    SELECT batch, status, created_ts, account FROM batches b
    WHERE {owner_filter} AND b.status = requested.status COLLATE "C"
    AND created_ts >= $2 AND created_ts <= $3 AND (created_ts, batch) {comparison} ($4, $5)
    ORDER BY created_ts {order}, batch {order} LIMIT $6
) AS page
WHERE account = $1
ORDER BY created_ts {order}, batch {order} LIMIT $6
"""


_ORDERS = {False: ("<", "DESC"), True: (">", "ASC")}
# Keyed by oldest_first.
_ALL = {oldest_first: _page(*order, "") for oldest_first, order in _ORDERS.items()}
_ALL_BY_STATUS = {
    oldest_first: _page_by_status(*order, "account = $1") for oldest_first, order in _ORDERS.items()
}
# A user belongs to one account, which the outer query checks: a filter on it here would offer
# PostgreSQL an index in which the batches of one user are scattered among those of all others.
_OWN_BY_STATUS = {
    oldest_first: _page_by_status(*order, "user_id = $8") for oldest_first, order in _ORDERS.items()
}
# No index excludes one user: the user's batches in between are read, but no others.
_OTHERS = {
    oldest_first: _page(*order, "AND user_id <> $7") for oldest_first, order in _ORDERS.items()
}
_OTHERS_BY_STATUS = {
    oldest_first: _page_by_status(*order, "account = $1 AND user_id <> $8")
    for oldest_first, order in _ORDERS.items()
}


async def find_page(
    connection: Connection,
    account: AccountId,
    query: GetBatches,
    owner: OwnerFilter,
) -> tuple[list[BatchSummary], bool]:
    """Return at most `query.limit` batches that pass the filter, and whether there are more."""
    cursor = query.cursor or (_BEFORE_ALL if query.oldest_first else _AFTER_ALL)
    ge, le = query.ge or _EARLIEST, query.le or _LATEST
    # This selects the same rows, but PostgreSQL may start its index scan at either bound: from a
    # looser one than the cursor it would read the entries of all preceding pages.
    if query.oldest_first:
        ge = max(ge, cursor.created_ts)
    else:
        le = min(le, cursor.created_ts)
    arguments: list[object] = [
        account,
        ge,
        le,
        cursor.created_ts,
        cursor.batch,
        query.limit + 1,
    ]
    # The only index on a user's batches is by status: without a filter, it is read per status.
    statuses = query.statuses or (frozenset(Status) if owner.only is not None else frozenset())
    if statuses:
        arguments.append([str(status) for status in statuses])
    if owner.only is not None:
        statements = _OWN_BY_STATUS
        arguments.append(owner.only)
    elif owner.exclude is not None:
        statements = _OTHERS_BY_STATUS if statuses else _OTHERS
        arguments.append(owner.exclude)
    else:
        statements = _ALL_BY_STATUS if statuses else _ALL
    rows = await connection.fetch(statements[query.oldest_first], *arguments)
    page = [
        BatchSummary(batch=row["batch"], status=Status(row["status"]), created_ts=row["created_ts"])
        for row in rows[: query.limit]
    ]
    return page, len(rows) > query.limit


# Later than all others even if the clock has gone back, after a failover for example. Times are
# stored in milliseconds.
_NEXT_CREATED_TS = """
SELECT greatest(
    date_trunc('milliseconds', clock_timestamp()),
    (SELECT max(created_ts) FROM batches WHERE account = $1) + interval '1 ms'
)
"""


async def next_created_ts(connection: Connection, account: AccountId) -> datetime:
    """Return the creation time of a batch that is about to be inserted.

    It is later than that of any other batch of the account. In a transaction that holds
    `AccountLock.BATCHES`, batches become visible in the order of their creation times: whoever has
    listed the account's batches up to one of them will find all others after it.
    """
    created_ts: datetime = await connection.fetchval(_NEXT_CREATED_TS, account)
    return created_ts
