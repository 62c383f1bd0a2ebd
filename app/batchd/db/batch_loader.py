"""Reads of single batches, gathered: those that arrive together are one query.

The data-loader pattern. A read is answered by a query that was sent after it arrived, so it is as
fresh as one of its own; while some queries are on their way, the next one collects.
"""

import asyncio
import logging
from collections.abc import Mapping

from batchd.db.batches import COLUMNS, decode
from batchd.db.connection import Database
from batchd.domain.batches import Batch
from batchd.domain.errors import BatchdError, ProcessingTimeout
from batchd.domain.ids import AccountId, BatchId

logger = logging.getLogger(__name__)

IN_FLIGHT = 2
"""One collects while the other is answered; more would only make them smaller."""
MOST_AT_ONCE = 500

_FIND = f"SELECT {COLUMNS} FROM batches WHERE batch = ANY($1)"


class BatchLoader:
    """For one process and its event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[BatchId, list[asyncio.Future[Batch | None]]] = {}
        self._in_flight: set[asyncio.Task[None]] = set()

    async def find(self, account: AccountId, batch: BatchId) -> Batch | None:
        """Return the account's batch; None if there is none, or it is another account's."""
        answer: asyncio.Future[Batch | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(batch, []).append(answer)
        if len(self._in_flight) < IN_FLIGHT:
            self._send()
        found = await answer
        return found if found is not None and found.account == account else None

    def _send(self) -> None:
        """Begin a query for those that wait, as many as one may have."""
        query = asyncio.create_task(self._query())
        self._in_flight.add(query)
        query.add_done_callback(self._done)

    def _done(self, query: asyncio.Task[None]) -> None:
        self._in_flight.discard(query)
        if self._waiting:
            self._send()

    async def _query(self) -> None:
        # The task begins when the readers of this turn of the loop have all come.
        wanted = self._take()
        try:
            async with self._database.connection() as connection:
                rows = await connection.fetch(_FIND, list(wanted))
            found = {row["batch"]: decode(row) for row in rows}
        except BaseException as error:  # whatever it is, nobody is left waiting
            _fail(wanted, error)
            if not isinstance(error, Exception):
                raise
            return
        for batch, answers in wanted.items():
            for answer in answers:
                if not answer.done():  # a reader that left has cancelled its own
                    answer.set_result(found.get(batch))

    def _take(self) -> Mapping[BatchId, list["asyncio.Future[Batch | None]"]]:
        if len(self._waiting) <= MOST_AT_ONCE:
            taken, self._waiting = self._waiting, {}
            return taken
        return {batch: self._waiting.pop(batch) for batch in list(self._waiting)[:MOST_AT_ONCE]}


def _fail(
    wanted: Mapping[BatchId, list["asyncio.Future[Batch | None]"]], error: BaseException
) -> None:
    """Give each reader an error of its own: one exception raised in many places grows with each."""
    for answers in wanted.values():
        for answer in answers:
            if not answer.done():
                answer.set_exception(_copy(error))


def _copy(error: BaseException) -> Exception:
    if isinstance(error, ProcessingTimeout):
        return ProcessingTimeout(error.description)
    failure: BatchdError | RuntimeError = RuntimeError("the query for several batches failed")
    failure.__cause__ = error
    return failure
