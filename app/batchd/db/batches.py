"""Batches: read by their account, changed by updates that are guarded by the status they leave."""

from collections.abc import Collection
from datetime import datetime

import asyncpg

from batchd.db import line_counts
from batchd.db.connection import Connection
from batchd.domain.batches import OPEN_STATUSES, Batch, LineCounts, ResultsFile, Status, sources_of
from batchd.domain.ids import AccountId, BatchId, Handler
from batchd.domain.permission import OwnerFilter

COLUMNS = """
batch, account, user_id, handler, operation, status, created_ts, updated_ts, hash, batch_dict,
priority, attempt, input_key, input_problem, input_size, lines, download_key, results_size,
results_lines, results_sha256
"""


def decode(row: asyncpg.Record) -> Batch:
    batch_dict = row["batch_dict"]
    results = None
    if row["results_sha256"] is not None:
        results = ResultsFile(
            size=row["results_size"], lines=row["results_lines"], sha256=row["results_sha256"]
        )
    return Batch(
        batch=row["batch"],
        account=row["account"],
        user=row["user_id"],
        handler=row["handler"],
        operation=row["operation"],
        status=Status(row["status"]),
        created_ts=row["created_ts"],
        updated_ts=row["updated_ts"],
        hash=row["hash"],
        batch_dict=None if batch_dict is None else batch_dict.encode(),
        priority=row["priority"],
        attempt=row["attempt"],
        input_key=row["input_key"],
        input_problem=row["input_problem"],
        input_size=row["input_size"],
        lines=row["lines"],
        download_key=row["download_key"],
        results=results,
    )


_INSERT = """
INSERT INTO batches (batch, account, user_id, handler, request_hash, operation, status, created_ts,
    updated_ts, hash, batch_dict, priority, input_size)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""


async def insert(connection: Connection, batch: Batch, *, request_hash: bytes) -> None:
    await connection.execute(
        _INSERT,
        batch.batch,
        batch.account,
        batch.user,
        batch.handler,
        request_hash,
        batch.operation,
        batch.status,
        batch.created_ts,
        batch.updated_ts,
        batch.hash,
        None if batch.batch_dict is None else batch.batch_dict.decode(),
        batch.priority,
        batch.input_size,
    )


OWNED = """
($3::uuid IS NULL OR user_id = $3) AND ($4::uuid IS NULL OR user_id <> $4)
"""
"""The condition of an `OwnerFilter`: $3 is `only`, $4 is `exclude`."""

_FIND = f"SELECT {COLUMNS} FROM batches WHERE batch = $1 AND account = $2 AND {OWNED}"


async def find(
    connection: Connection, account: AccountId, batch: BatchId, owner: OwnerFilter
) -> Batch | None:
    """Return the batch, if it is the account's and passes the filter."""
    row = await connection.fetchrow(_FIND, batch, account, owner.only, owner.exclude)
    return None if row is None else decode(row)


_FIND_FOR_UPDATE = f"{_FIND} FOR UPDATE"


async def find_for_update(
    connection: Connection, account: AccountId, batch: BatchId, owner: OwnerFilter
) -> Batch | None:
    """Like `find`, and lock the row until the transaction ends."""
    row = await connection.fetchrow(_FIND_FOR_UPDATE, batch, account, owner.only, owner.exclude)
    return None if row is None else decode(row)


_FIND_ANY = f"SELECT {COLUMNS} FROM batches WHERE batch = $1"


async def find_any(connection: Connection, batch: BatchId) -> Batch | None:
    """Return a batch of whatever account: for the workers, who have none."""
    row = await connection.fetchrow(_FIND_ANY, batch)
    return None if row is None else decode(row)


_FIND_BY_HANDLER = f"""
SELECT {COLUMNS}, request_hash FROM batches
WHERE handler = $1 AND account = $2 AND {OWNED}
"""


async def find_by_handler(
    connection: Connection, account: AccountId, handler: Handler, owner: OwnerFilter
) -> tuple[Batch, bytes] | None:
    """Return the batch that was created from an upload, and the hash of the request for it."""
    row = await connection.fetchrow(_FIND_BY_HANDLER, handler, account, owner.only, owner.exclude)
    return None if row is None else (decode(row), row["request_hash"])


_OPEN = ", ".join(f"'{status}'" for status in sorted(OPEN_STATUSES))

# Counts no further than it must: an account at its limit costs no more than so many index entries.
# The statuses stand in the text. As an argument they are unknown to the plan that PostgreSQL
# settles on after some runs: it takes them for common, and reads the whole table.
_COUNT_OPEN = f"""
SELECT count(*) FROM (
    SELECT FROM batches WHERE account = $1 AND status IN ({_OPEN}) LIMIT $2
) AS open
"""


async def count_open(connection: Connection, account: AccountId, *, at_most: int) -> int:
    count: int = await connection.fetchval(_COUNT_OPEN, account, at_most)
    return count


# The one statement that changes a status. No row: the batch has gone on, or another worker has
# taken over (attempt), and whatever this writer was about to say is out of date.
_MOVE = f"""
UPDATE batches SET status = $2, updated_ts = greatest(updated_ts, $3), attempt = attempt + $6
WHERE batch = $1 AND status = ANY($4) AND ($5::int IS NULL OR attempt = $5)
RETURNING {COLUMNS}
"""


async def _move(
    connection: Connection,
    batch: BatchId,
    to: Status,
    *,
    sources: Collection[Status],
    now: datetime,
    attempt: int | None,
    raise_attempt: int,
) -> Batch | None:
    row = await connection.fetchrow(
        _MOVE, batch, to, now, [str(source) for source in sources], attempt, raise_attempt
    )
    return None if row is None else decode(row)


async def move(
    connection: Connection,
    batch: BatchId,
    to: Status,
    *,
    now: datetime,
    attempt: int | None = None,
) -> Batch | None:
    """Change the status if that is legal from the present one; None if it is not (any more).

    With `attempt`, only if that attempt still holds the batch.
    """
    return await _move(
        connection,
        batch,
        to,
        sources=sources_of(to),
        now=now,
        attempt=attempt,
        raise_attempt=0,
    )


async def claim(
    connection: Connection, batch: BatchId, to: Status, *, now: datetime
) -> Batch | None:
    """Begin a stage, or begin it again after its worker died: older attempts are shut out."""
    return await _move(
        connection,
        batch,
        to,
        sources=sources_of(to) | {to},
        now=now,
        attempt=None,
        raise_attempt=1,
    )


_SET_INPUT = "UPDATE batches SET input_key = $2, input_problem = $3 WHERE batch = $1"


async def set_input(
    connection: Connection, batch: BatchId, *, key: str | None, problem: str | None = None
) -> None:
    """Record where the copy is, and what is wrong with it as a whole."""
    await connection.execute(_SET_INPUT, batch, key, problem)


_SET_LINES = "UPDATE batches SET lines = $2, input_size = $3 WHERE batch = $1"


async def set_lines(connection: Connection, batch: BatchId, lines: int, *, size: int) -> None:
    """Record what will run: so many lines, in so many bytes."""
    await connection.execute(_SET_LINES, batch, lines, size)


_SET_DOWNLOAD = "UPDATE batches SET download_key = $2 WHERE batch = $1"


async def set_download(connection: Connection, batch: BatchId, key: str) -> None:
    await connection.execute(_SET_DOWNLOAD, batch, key)


_SET_RESULTS = """
UPDATE batches SET download_key = $2, results_size = $3, results_lines = $4, results_sha256 = $5,
    succeeded = $6, failed = $7, cancelled = $8, errors = $9
WHERE batch = $1
"""


async def set_results(
    connection: Connection, batch: BatchId, *, key: str, results: ResultsFile, tally: LineCounts
) -> None:
    """Record the results file and the final tally."""
    await connection.execute(
        _SET_RESULTS,
        batch,
        key,
        results.size,
        results.lines,
        results.sha256,
        tally.succeeded,
        tally.failed,
        tally.cancelled,
        line_counts.encode_errors(tally.errors),
    )


_COUNTS = "SELECT succeeded, failed, cancelled, errors FROM batches WHERE batch = $1"


async def find_final_counts(connection: Connection, batch: BatchId) -> LineCounts:
    """Return the tally of a batch whose results are written; zeros before."""
    row = await connection.fetchrow(_COUNTS, batch)
    return LineCounts() if row is None else line_counts.decode(row)


_IS_CLAIMED = "SELECT FROM batches WHERE batch = $1 AND status = $2 AND attempt = $3"


async def is_claimed(
    connection: Connection, batch: BatchId, *, status: Status, attempt: int
) -> bool:
    """Return whether this attempt at the stage is still the valid one."""
    return await connection.fetchrow(_IS_CLAIMED, batch, status, attempt) is not None


_DELETE = "DELETE FROM batches WHERE batch = $1 AND status = 'deleting'"


async def delete(connection: Connection, batch: BatchId) -> None:
    """Remove a batch that is being deleted, with its chunks."""
    await connection.execute(_DELETE, batch)
