"""Rates of the whole fleet: each row is a stretch of time, handed out slice by slice."""

from datetime import timedelta

from batchd.db.connection import Connection

# Who holds a slice spreads its calls over it; slices do not overlap, so all together keep the rate.
# Time that nobody asked for is gone, but for the last moments ($4), which make up for round trips.
_TAKE = """
-- clock_timestamp, not now: the row may have been waited for.
INSERT INTO rates AS rate (name, per_s, used_until)
VALUES ($1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (name, per_s) DO UPDATE SET
    used_until = greatest(rate.used_until, clock_timestamp() - $4::interval) + $3::interval
RETURNING extract(epoch FROM used_until - $3::interval - clock_timestamp())::float8
"""


async def take(
    connection: Connection, name: str, *, per_s: float, calls: int, grace_s: float
) -> float:
    """Take time for so many calls; return in how many seconds it begins, by the database's clock.

    Below 0 it has begun already, at most `grace_s` ago.
    """
    size = timedelta(seconds=calls / per_s)
    begins_s: float = await connection.fetchval(
        _TAKE, name, per_s, size, timedelta(seconds=grace_s)
    )
    return begins_s
