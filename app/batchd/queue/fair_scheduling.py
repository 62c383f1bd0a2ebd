"""Fair shares: how the work of accounts is interleaved, by virtual time.

Start-time fair queueing: what an account queues is tagged one piece after the other from where its
last piece ended, or from now on if that is past. Who has the lowest tag is served next; so a
newcomer is served at once, and then in turn with those who have queued millions. Time advances by
lines, divided by the account's weight.
"""

from collections.abc import Sequence
from itertools import accumulate

from batchd.db.connection import Connection
from batchd.domain.ids import AccountId, BatchId

REBASE_AT = 1_000_000_000
"""The engine's priorities have 32 bits: long before they end, time is set back."""

# What is served next; a job that waits for another try does not hold time back.
_NOW = """
SELECT coalesce(
    (SELECT -j.priority FROM pgqueuer j
     WHERE j.entrypoint = $1 AND j.status = 'queued' AND j.execute_after <= now()
     ORDER BY j.priority DESC LIMIT 1),
    (SELECT max(tag) FROM shares WHERE lane = $1),
    0
)
"""


async def now(connection: Connection, lane: str) -> int:
    """Return the virtual time of a lane: the tag of what is served next."""
    tag: int = await connection.fetchval(_NOW, lane)
    return tag


# The row is locked until the transaction ends, so two batches of an account queue one by one.
_TAKE = f"""
WITH now (tag) AS ({_NOW}), cost AS (
    SELECT ceil($3 / coalesce((SELECT weight FROM weights WHERE account = $2), 1))::bigint AS cost
)
INSERT INTO shares AS share (lane, account, tag)
SELECT $1, $2, now.tag + cost.cost FROM now, cost
ON CONFLICT (lane, account) DO UPDATE
SET tag = greatest(share.tag, (SELECT tag FROM now)) + (SELECT cost FROM cost)
RETURNING tag - (SELECT cost FROM cost) AS first, (SELECT cost FROM cost) AS cost
"""


async def take_tags(
    connection: Connection, lane: str, account: AccountId, costs: Sequence[int]
) -> list[int]:
    """Return a tag for each piece of work, given what each costs in lines."""
    total = sum(costs)
    row = await connection.fetchrow(_TAKE, lane, account, float(total))
    assert row is not None, "the statement always returns its row"  # noqa: S101
    first, scale = row["first"], row["cost"] / (total or 1)
    return [first + int(before * scale) for before in accumulate(costs[:-1], initial=0)]


# The account's waiting chunks keep the places they have in the fleet, and change them among
# themselves: those of the more urgent batch first, then those of the older one.
_REORDER = """
WITH waiting AS (
    SELECT j.id, j.priority AS place,
        row_number() OVER (ORDER BY j.priority DESC, j.id) AS present,
        row_number() OVER (ORDER BY b.priority DESC, b.created_ts, b.batch, c.no) AS wanted
    FROM batches b JOIN chunks c USING (batch)
    JOIN pgqueuer j ON j.dedupe_key = 'chunk:' || c.batch || ':' || c.no AND j.status = 'queued'
    WHERE b.account = $1 AND b.status = 'processing' AND c.part_key IS NULL AND j.entrypoint = $2
)
UPDATE pgqueuer j SET priority = there.place
FROM waiting here JOIN waiting there ON there.present = here.wanted
WHERE j.id = here.id AND j.status = 'queued' AND j.priority <> there.place
"""

_IS_URGENT = """
SELECT EXISTS (
    SELECT FROM batches other JOIN batches b ON b.account = other.account
    WHERE b.batch = $1 AND other.status = 'processing' AND other.priority < b.priority
)
"""


async def reorder(connection: Connection, lane: str, account: AccountId, batch: BatchId) -> None:
    """Put the batch's chunks before those of the account's less urgent batches, if there are any.

    Call it after `take_tags` in the same transaction: nobody else tags for the account meanwhile.
    """
    if await connection.fetchval(_IS_URGENT, batch):
        await connection.execute(_REORDER, account, lane)


_LATEST = "SELECT max(tag) FROM shares"
# Who is about to queue something has a lock on its row that this one waits for.
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


async def rebase(connection: Connection, *, at: int = REBASE_AT) -> bool:
    """Set time back to 0 where it has gone far; return whether it had. Orders stay as they are."""
    latest = await connection.fetchval(_LATEST)
    if latest is None or latest < at:
        return False
    await connection.execute(_LOCK)
    await connection.execute(_REBASE)
    return True
