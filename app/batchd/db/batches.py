"""Batches: read by account, changed by updates guarded by the status they leave."""

from datetime import datetime
from uuid import UUID

import asyncpg

from batchd.db import line_counts
from batchd.db.connection import Connection
from batchd.domain.batches import OPEN_STATUSES, Batch, LineCounts, ResultsFile, Status, sources_of
from batchd.domain.ids import AccountId, BatchId, Handler
from batchd.domain.permission import OwnerFilter

COLUMNS = """
batch, account, user_id, handler, operation, status, created_ts, updated_ts, hash, batch_dict,
priority, attempt, fencing_token, input_key, input_problem, input_size, lines, download_key,
results_size, results_lines, results_sha256
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
        fencing_token=row["fencing_token"],
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
    """Like `find`, and lock the batch until the transaction ends."""
    row = await connection.fetchrow(_FIND_FOR_UPDATE, batch, account, owner.only, owner.exclude)
    return None if row is None else decode(row)


_FIND_UNSCOPED = f"SELECT {COLUMNS} FROM batches WHERE batch = $1"


async def find_unscoped(connection: Connection, batch: BatchId) -> Batch | None:
    """Return a batch of any account: for workers, which act for all accounts."""
    row = await connection.fetchrow(_FIND_UNSCOPED, batch)
    return None if row is None else decode(row)


_FIND_BY_HANDLER = f"""
SELECT {COLUMNS}, request_hash FROM batches
WHERE handler = $1 AND account = $2 AND {OWNED}
"""


async def find_by_handler(
    connection: Connection, account: AccountId, handler: Handler, owner: OwnerFilter
) -> tuple[Batch, bytes] | None:
    """Return the batch created from an upload, and the hash of the request that created it."""
    row = await connection.fetchrow(_FIND_BY_HANDLER, handler, account, owner.only, owner.exclude)
    return None if row is None else (decode(row), row["request_hash"])


_OPEN = ", ".join(f"'{status}'" for status in sorted(OPEN_STATUSES))

# Stops counting at the limit, so that it reads no more index entries than that.
# The statuses are literals: as parameters they would be unknown to the generic plan that PostgreSQL
# switches to after some executions, which assumes common values and scans the whole table.
_COUNT_OPEN = f"""
SELECT count(*) FROM (
    SELECT FROM batches WHERE account = $1 AND status IN ({_OPEN}) LIMIT $2
) AS open
"""


async def count_open(connection: Connection, account: AccountId, *, limit: int) -> int:
    """Return the number of open batches, or `limit` if there are more."""
    count: int = await connection.fetchval(_COUNT_OPEN, account, limit)
    return count


# This and _CLAIM are the only statements that change a status. If one returns no row, the batch has
# advanced or another worker has claimed it, so this writer's result is obsolete.
_TRANSITION = f"""
UPDATE batches SET status = $2, updated_ts = greatest(updated_ts, $3)
WHERE batch = $1 AND status = ANY($4) AND ($5::uuid IS NULL OR fencing_token = $5)
RETURNING {COLUMNS}
"""


async def transition(
    connection: Connection,
    batch: BatchId,
    target: Status,
    *,
    now: datetime,
    fencing_token: UUID | None = None,
) -> Batch | None:
    """Change the status; None if that is not legal from the current one (any more).

    With the fencing token of a claim, also None if another worker has claimed the batch since then.
    """
    sources = [str(source) for source in sources_of(target)]
    row = await connection.fetchrow(_TRANSITION, batch, target, now, sources, fencing_token)
    return None if row is None else decode(row)


# The token is random, not counted: a database that is restored or promoted has forgotten its last
# claims, and would give their numbers, and with them their storage keys, to other workers. The
# number of claims only says how often stages were started.
_CLAIM = f"""
UPDATE batches SET status = $2, updated_ts = greatest(updated_ts, $3),
    attempt = attempt + 1, fencing_token = gen_random_uuid()
WHERE batch = $1 AND status = ANY($4)
RETURNING {COLUMNS}
"""


async def claim(
    connection: Connection, batch: BatchId, target: Status, *, now: datetime
) -> Batch | None:
    """Start a stage, or restart it after its worker died, and fence off earlier claims."""
    sources = [str(source) for source in sources_of(target) | {target}]
    row = await connection.fetchrow(_CLAIM, batch, target, now, sources)
    return None if row is None else decode(row)


_SET_INPUT = "UPDATE batches SET input_key = $2, input_problem = $3 WHERE batch = $1"


async def set_input(
    connection: Connection, batch: BatchId, *, key: str | None, problem: str | None = None
) -> None:
    """Record the key of the input file, and the issue of the file as a whole, if it has one."""
    await connection.execute(_SET_INPUT, batch, key, problem)


_SET_LINES = "UPDATE batches SET lines = $2, input_size = $3 WHERE batch = $1"


async def set_lines(connection: Connection, batch: BatchId, lines: int, *, size: int) -> None:
    """Record how many lines will run, and their size in bytes."""
    await connection.execute(_SET_LINES, batch, lines, size)


_SET_INPUT_SIZE = f"""
UPDATE batches SET input_size = $4
WHERE batch = $1 AND status = $2 AND fencing_token = $3
RETURNING {COLUMNS}
"""


async def set_input_size(connection: Connection, batch: Batch, *, size: int) -> Batch | None:
    """Record the size of an input that proved to be larger; None if the claim is lost."""
    row = await connection.fetchrow(
        _SET_INPUT_SIZE, batch.batch, batch.status, batch.fencing_token, size
    )
    return None if row is None else decode(row)


_SET_DOWNLOAD = "UPDATE batches SET download_key = $2 WHERE batch = $1"


async def set_download(connection: Connection, batch: BatchId, key: str) -> None:
    await connection.execute(_SET_DOWNLOAD, batch, key)


_SET_RESULTS = """
UPDATE batches SET download_key = $2, results_size = $3, results_lines = $4, results_sha256 = $5,
    succeeded = $6, failed = $7, cancelled = $8, errors = $9
WHERE batch = $1
"""


async def set_results(
    connection: Connection, batch: BatchId, *, key: str, results: ResultsFile, counts: LineCounts
) -> None:
    """Record the results file and the final line counts."""
    await connection.execute(
        _SET_RESULTS,
        batch,
        key,
        results.size,
        results.lines,
        results.sha256,
        counts.succeeded,
        counts.failed,
        counts.cancelled,
        line_counts.encode_errors(counts.errors),
    )


_SET_FINAL_COUNTS = """
UPDATE batches SET succeeded = $2, failed = $3, cancelled = $4, errors = $5 WHERE batch = $1
"""


async def set_final_counts(connection: Connection, batch: BatchId, counts: LineCounts) -> None:
    """Record the final line counts of a batch that ends without a results file."""
    await connection.execute(
        _SET_FINAL_COUNTS,
        batch,
        counts.succeeded,
        counts.failed,
        counts.cancelled,
        line_counts.encode_errors(counts.errors),
    )


_FIND_FINAL_COUNTS = "SELECT succeeded, failed, cancelled, errors FROM batches WHERE batch = $1"


async def find_final_counts(connection: Connection, batch: BatchId) -> LineCounts:
    """Return the line counts of a batch at its end; zeros before."""
    row = await connection.fetchrow(_FIND_FINAL_COUNTS, batch)
    return LineCounts() if row is None else line_counts.decode(row)


_IS_CLAIMED = "SELECT FROM batches WHERE batch = $1 AND status = $2 AND fencing_token = $3"


async def is_claimed(
    connection: Connection, batch: BatchId, *, status: Status, fencing_token: UUID | None
) -> bool:
    """Return whether this is the latest claim of the batch, which is still in this status."""
    return await connection.fetchrow(_IS_CLAIMED, batch, status, fencing_token) is not None


_DELETE = f"DELETE FROM batches WHERE batch = $1 AND status = 'deleting' RETURNING {COLUMNS}"


async def delete(connection: Connection, batch: BatchId) -> Batch | None:
    """Delete the row of a batch in status deleting, and its chunks; return the batch."""
    row = await connection.fetchrow(_DELETE, batch)
    return None if row is None else decode(row)
