"""Gathers reads of single batches: those that arrive together become one query.

The data-loader pattern. A read is answered by a query that was sent after it arrived, so it is as
fresh as a query of its own; while some queries are in flight, the next one collects.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import asyncpg

from batchd.db.batches import COLUMNS, decode
from batchd.db.connection import Database
from batchd.domain.batches import Batch
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ids import AccountId, BatchId, UserId
from batchd.domain.permission import OwnerFilter

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 2
"""One query collects reads while the other runs; more would only make them smaller."""
MAX_BATCHES_PER_QUERY = 500

# A join, not `batch = ANY($1)`: a row leaves the database only for a reader that may see it.
_FIND = f"""
SELECT r.index, {", ".join(f"b.{column.strip()}" for column in COLUMNS.split(","))}
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])
    WITH ORDINALITY AS r (batch, account, owner, not_owner, index)
JOIN batches b ON b.batch = r.batch AND b.account = r.account
    AND (r.owner IS NULL OR b.user_id = r.owner)
    AND (r.not_owner IS NULL OR b.user_id <> r.not_owner)
"""


class _Read(NamedTuple):
    """What one reader requests; readers that request the same share the result."""

    batch: BatchId
    account: AccountId
    only: UserId | None
    exclude: UserId | None


_Futures: TypeAlias = list["asyncio.Future[Batch | None]"]


class BatchLoader:
    """Serves one process and its event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[_Read, _Futures] = {}
        self._in_flight: set[asyncio.Task[None]] = set()

    async def find(self, account: AccountId, batch: BatchId, owner: OwnerFilter) -> Batch | None:
        """Return the batch, if it is the account's and passes the filter."""
        future: asyncio.Future[Batch | None] = asyncio.get_running_loop().create_future()
        read = _Read(batch, account, owner.only, owner.exclude)
        self._waiting.setdefault(read, []).append(future)
        if len(self._in_flight) < MAX_IN_FLIGHT:
            self._start_query()
        return await future

    def _start_query(self) -> None:
        query = asyncio.create_task(self._query())
        self._in_flight.add(query)
        query.add_done_callback(self._on_query_done)

    def _on_query_done(self, query: asyncio.Task[None]) -> None:
        self._in_flight.discard(query)
        if self._waiting:
            self._start_query()

    async def _query(self) -> None:
        # The task begins when all readers of this iteration of the event loop have arrived.
        reads = self._take_waiting()
        if not reads:  # another query took them, or all readers have left
            return
        try:
            async with self._database.connection() as connection:
                rows = await connection.fetch(_FIND, *map(list, zip(*reads, strict=True)))
        except BaseException as error:  # whatever it is, no reader must wait for ever
            for futures in reads.values():
                _fail(futures, error)
            if not isinstance(error, Exception):
                raise
            return
        futures_by_index = list(reads.values())
        for row in rows:
            _resolve(futures_by_index[row["index"] - 1], row)
        for futures in futures_by_index:
            for future in futures:
                if not future.done():
                    future.set_result(None)

    def _take_waiting(self) -> Mapping[_Read, _Futures]:
        """Return the reads of the next query, without those whose readers have all left."""
        reads: dict[_Read, _Futures] = {}
        while self._waiting and len(reads) < MAX_BATCHES_PER_QUERY:
            read = next(iter(self._waiting))  # the one that arrived first
            futures = self._waiting.pop(read)
            if not all(future.done() for future in futures):
                reads[read] = futures
        return reads


def _resolve(futures: _Futures, row: asyncpg.Record) -> None:
    """Pass a row to its readers. If it cannot be decoded, only they fail."""
    try:
        batch = decode(row)
    except Exception as error:
        logger.exception("the row of a batch cannot be decoded")
        _fail(futures, error)
        return
    for future in futures:
        if not future.done():  # a reader that left has cancelled its own
            future.set_result(batch)


def _fail(futures: _Futures, error: BaseException) -> None:
    """Give each reader an error of its own: the traceback of a shared one grows with each raise."""
    for future in futures:
        if not future.done():
            future.set_exception(_copy(error))


def _copy(error: BaseException) -> Exception:
    if isinstance(error, ProcessingTimeout):
        return ProcessingTimeout(error.description, is_outage=error.is_outage)
    failure = RuntimeError("the query for several batches failed")
    failure.__cause__ = error
    return failure
