"""Fair scheduling: interleaves the jobs of the accounts by virtual time.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each job gets a tag, which starts where the
account's previous job ended, or at the current virtual time if that is later. The job with the
lowest tag runs next, so a newcomer is served at once and then in turn with accounts that have
queued millions of lines. Virtual time advances by lines, divided by the account's weight.
"""

from collections.abc import Sequence
from itertools import accumulate, chain, islice

import asyncpg

from batchd.db.connection import Connection
from batchd.domain.ids import AccountId, BatchId

REBASE_THRESHOLD = 1_000_000_000
"""PgQueuer's priorities have 32 bits: virtual time is reset well before it reaches their limit."""

# The tag of the job that runs next; jobs waiting for a retry do not hold virtual time back.
_VIRTUAL_TIME = """
SELECT coalesce(
    (SELECT -j.priority FROM pgqueuer j
     WHERE j.entrypoint = $1 AND j.status = 'queued' AND j.execute_after <= now()
     ORDER BY j.priority DESC LIMIT 1),
    (SELECT max(tag) FROM shares WHERE lane = $1),
    0
)
"""


async def virtual_time(connection: Connection, lane: str) -> int:
    """Return the virtual time of a lane: the tag of the job that runs next."""
    tag: int = await connection.fetchval(_VIRTUAL_TIME, lane)
    return tag


# The row stays locked until the transaction ends, so batches of one account queue one by one.
_RESERVE_TAGS = f"""
WITH current (tag) AS ({_VIRTUAL_TIME}), reserved AS (
    SELECT ceil($3 / coalesce((SELECT weight FROM weights WHERE account = $2), 1))::bigint AS span
)
INSERT INTO shares AS share (lane, account, tag)
SELECT $1, $2, current.tag + reserved.span FROM current, reserved
ON CONFLICT (lane, account) DO UPDATE
SET tag = greatest(share.tag, (SELECT tag FROM current)) + (SELECT span FROM reserved)
RETURNING tag - (SELECT span FROM reserved) AS start_tag, (SELECT span FROM reserved) AS span
"""


async def reserve_tags(
    connection: Connection, lane: str, account: AccountId, costs: Sequence[int]
) -> list[int]:
    """Return a tag for each job, given the jobs' costs in lines."""
    total_cost = sum(costs)
    row = await connection.fetchrow(_RESERVE_TAGS, lane, account, float(total_cost))
    assert row is not None, "the statement always returns its row"  # noqa: S101
    start_tag, tags_per_line = row["start_tag"], row["span"] / (total_cost or 1)
    preceding_costs = accumulate(costs[:-1], initial=0)
    return [start_tag + int(cost * tags_per_line) for cost in preceding_costs]


_MIN_WINDOW = 16
"""Turns reassigned of each batch at least: short batches keep the order of their chunks."""
_MAX_DISPLACED = 400
"""About 50 µs each. Beyond it, adjacent batches are displaced as if they were one."""
_MAX_JOBS_PER_UPDATE = 250
"""Few enough for PostgreSQL to look up each of them instead of scanning the table."""

_HAS_PRECEDENCE = """
SELECT EXISTS (
    SELECT FROM batches other JOIN batches b ON b.account = other.account
    WHERE b.batch = $1 AND other.status = 'processing' AND other.priority < b.priority
)
"""

# Bounds in place of `=`, so that only the index pgqueuer_batch_turn offers this order: otherwise
# PostgreSQL may walk through the whole lane, assuming that the batch is spread over it.
_FIND_TURNS = """
SELECT id, priority FROM pgqueuer j
WHERE batch >= $1 AND batch <= $1 AND chunk IS NOT NULL AND status = 'queued' AND entrypoint = $2
ORDER BY batch, priority DESC, id
"""
_FIND_TURNS_OF_OTHERS = """
SELECT other.batch, turn.id, turn.priority
FROM batches b JOIN batches other USING (account), LATERAL (
    SELECT id, j.priority FROM pgqueuer j
    WHERE j.batch >= other.batch AND j.batch <= other.batch AND chunk IS NOT NULL
    AND j.status = 'queued' AND entrypoint = $2
    ORDER BY j.batch, j.priority DESC, id LIMIT $3
) AS turn
WHERE b.batch = $1 AND other.status = 'processing' AND other.priority < b.priority
ORDER BY turn.priority DESC, turn.id
"""
_REASSIGN = """
UPDATE pgqueuer j SET priority = moved.priority
FROM unnest($1::bigint[], $2::int[]) AS moved (id, priority)
WHERE j.id = moved.id AND j.status = 'queued'
"""


async def reorder(connection: Connection, lane: str, batch: BatchId) -> None:
    """Move the batch's chunks ahead of those of the account's batches with a lower priority.

    Other accounts are not affected: the account's turns (its chunks' priorities) stay the same.
    The batch, of K chunks, takes the earliest turns, and what it displaces takes the next ones, up
    to those that were reserved for the batch. Of each other batch only the first K turns change
    hands, so the cost does not grow with the number of its chunks. The batches keep their order;
    the chunks of one long batch may not.

    Call it after `reserve_tags` in the same transaction, which keeps other transactions from
    reserving tags for the account.
    """
    if not await connection.fetchval(_HAS_PRECEDENCE, batch):
        return
    own = await connection.fetch(_FIND_TURNS, batch, lane)
    window = max(len(own), _MIN_WINDOW)
    others = await connection.fetch(_FIND_TURNS_OF_OTHERS, batch, lane, window)
    rows = [*own, *_displaced(others, window)]
    turns = sorted((-row["priority"], row["id"]) for row in rows)
    moved = [
        (row["id"], -tag)
        for row, (tag, _) in zip(rows, turns, strict=True)
        if row["priority"] != -tag
    ]
    for start in range(0, len(moved), _MAX_JOBS_PER_UPDATE):
        jobs = moved[start : start + _MAX_JOBS_PER_UPDATE]
        await connection.execute(_REASSIGN, *map(list, zip(*jobs, strict=True)))


def _displaced(rows: Sequence[asyncpg.Record], window: int) -> list[asyncpg.Record]:
    """Return the rows whose turns change hands, given the first ones of each batch, in turn.

    Those are the first `window` rows of each group of batches. A group is one batch, if that does
    not displace too many rows.
    """
    by_batch: dict[BatchId, list[asyncpg.Record]] = {}
    for row in rows:
        by_batch.setdefault(row["batch"], []).append(row)
    batches = list(by_batch.values())
    max_groups = max(1, _MAX_DISPLACED // window)
    group_size = -(-len(batches) // max_groups) or 1
    displaced = [
        row
        for start in range(0, len(batches), group_size)
        for row in islice(chain(*batches[start : start + group_size]), window)
    ]
    return sorted(displaced, key=lambda row: (-row["priority"], row["id"]))


_MAX_TAG = "SELECT max(tag) FROM shares"
# Waits for transactions that are about to queue jobs: each holds a lock on its account's row.
_LOCK = "LOCK TABLE shares IN SHARE ROW EXCLUSIVE MODE"
_REBASE = """
WITH origin AS (
    SELECT lane, coalesce(
        (SELECT -max(j.priority) FROM pgqueuer j WHERE j.entrypoint = lane AND status = 'queued'),
        max(tag)
    ) AS tag
    FROM shares GROUP BY lane
), jobs AS (
    UPDATE pgqueuer j SET priority = j.priority + origin.tag
    FROM origin WHERE j.entrypoint = origin.lane
)
UPDATE shares SET tag = greatest(shares.tag - origin.tag, 0)
FROM origin WHERE shares.lane = origin.lane
"""


async def rebase(connection: Connection, *, threshold: int = REBASE_THRESHOLD) -> bool:
    """Reset virtual time to 0 once it has reached the threshold, keeping the order of jobs.

    Return whether it was reset.
    """
    max_tag = await connection.fetchval(_MAX_TAG)
    if max_tag is None or max_tag < threshold:
        return False
    await connection.execute(_LOCK)
    await connection.execute(_REBASE)
    return True
