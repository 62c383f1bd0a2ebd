"""Fleet-wide rate limits: each row is a timeline, reserved slice by slice."""

from datetime import timedelta

from batchd.db.connection import Connection

# The holder of a slice spreads its calls over it; slices do not overlap, so the fleet as a whole
# keeps the rate. Unreserved time expires, except the last moments ($4), which cover round trips.
_RESERVE = """
-- clock_timestamp, not now: the statement may have waited for the row.
INSERT INTO rates AS rate (name, per_s, used_until)
VALUES ($1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (name, per_s) DO UPDATE SET
    used_until = greatest(rate.used_until, clock_timestamp() - $4::interval) + $3::interval
RETURNING extract(epoch FROM used_until - $3::interval - clock_timestamp())::float8
"""


async def reserve(
    connection: Connection, name: str, *, per_s: float, calls: int, grace_s: float
) -> float:
    """Reserve a slice for this many calls; return the seconds until it starts.

    Negative if it has started already, at most `grace_s` ago, by the database's clock.
    """
    duration = timedelta(seconds=calls / per_s)
    starts_in_s: float = await connection.fetchval(
        _RESERVE, name, per_s, duration, timedelta(seconds=grace_s)
    )
    return starts_in_s
