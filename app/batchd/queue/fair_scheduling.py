"""Fair scheduling: interleaves the jobs of the accounts by virtual time.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each job gets a tag, which starts where the
account's previous job ended, or at the current virtual time if that is later. The job with the
lowest tag runs next, so a newcomer is served at once and then in turn with accounts that have
queued millions of lines. Virtual time advances by lines, divided by the account's weight.
"""

from collections.abc import Sequence
from itertools import accumulate

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


# The account's queued chunks keep their set of priorities, and exchange them among themselves:
# chunks of the batch with the higher priority come first, then those of the older batch.
_REORDER = """
WITH queued AS (
    SELECT j.id, j.priority,
        row_number() OVER (ORDER BY j.priority DESC, j.id) AS current_rank,
        row_number() OVER (ORDER BY b.priority DESC, b.created_ts, b.batch, c.no) AS target_rank
    FROM batches b JOIN chunks c USING (batch)
    JOIN pgqueuer j ON j.dedupe_key = 'chunk:' || c.batch || ':' || c.no AND j.status = 'queued'
    WHERE b.account = $1 AND b.status = 'processing' AND c.part_key IS NULL AND j.entrypoint = $2
)
UPDATE pgqueuer j SET priority = target.priority
FROM queued moved JOIN queued target ON target.current_rank = moved.target_rank
WHERE j.id = moved.id AND j.status = 'queued' AND j.priority <> target.priority
"""

_HAS_PRECEDENCE = """
SELECT EXISTS (
    SELECT FROM batches other JOIN batches b ON b.account = other.account
    WHERE b.batch = $1 AND other.status = 'processing' AND other.priority < b.priority
)
"""


async def reorder(connection: Connection, lane: str, account: AccountId, batch: BatchId) -> None:
    """Move the batch's chunks ahead of those of the account's batches with a lower priority.

    Call it after `reserve_tags` in the same transaction, which keeps other transactions from
    reserving tags for the account.
    """
    if await connection.fetchval(_HAS_PRECEDENCE, batch):
        await connection.execute(_REORDER, account, lane)


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
