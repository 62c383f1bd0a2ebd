"""The graveyard: batches with files that are no longer needed, and when to delete these files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchd.db.connection import Connection
from batchd.domain.batches import Batch
from batchd.domain.ids import AccountId, BatchId, Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class Grave:
    """What is needed to find a batch's files, even after the batch has been deleted."""

    batch: BatchId
    account: AccountId
    handler: Handler
    due: datetime | None = None


# By the database's clock, which all workers share. A batch that is deleted after its end is buried
# again: the later time counts.
_INSERT = """
INSERT INTO graveyard (batch, account, handler, due)
VALUES ($1, $2, $3, now() + make_interval(secs => $4))
ON CONFLICT (batch) DO UPDATE SET due = excluded.due
"""


async def insert(connection: Connection, batch: Batch, *, delay_s: float) -> None:
    await connection.execute(_INSERT, batch.batch, batch.account, batch.handler, delay_s)


_FIND = "SELECT batch, account, handler, due FROM graveyard WHERE batch = $1"


async def find(connection: Connection, batch: BatchId) -> Grave | None:
    row = await connection.fetchrow(_FIND, batch)
    return None if row is None else Grave(**row)


_DELETE = "DELETE FROM graveyard WHERE batch = $1 AND due = $2"


async def delete(connection: Connection, grave: Grave) -> None:
    """Delete the row, unless the batch has been buried again since it was read."""
    await connection.execute(_DELETE, grave.batch, grave.due)


_POSTPONE = "UPDATE graveyard SET due = now() + make_interval(secs => $2) WHERE batch = $1"


async def postpone(connection: Connection, batch: BatchId, *, delay_s: float) -> None:
    await connection.execute(_POSTPONE, batch, delay_s)


_FIND_DUE = """
SELECT batch FROM graveyard g WHERE due <= now()
AND NOT EXISTS (
    SELECT FROM pgqueuer j
    WHERE j.dedupe_key = 'tidy:' || g.batch AND j.status IN ('queued', 'picked')
)
ORDER BY due LIMIT $1 - (
    SELECT count(*) FROM (
        SELECT FROM pgqueuer WHERE entrypoint = 'stages' AND status = 'queued' AND stage = 'tidy'
        LIMIT $1
    ) AS waiting
)
"""


async def find_due(connection: Connection, *, limit: int) -> Sequence[BatchId]:
    """Return batches whose files are due to be deleted but have no job for it, oldest first.

    At most so many that no more than `limit` such jobs wait: other stages wait behind them.
    """
    return [row["batch"] for row in await connection.fetch(_FIND_DUE, limit)]
