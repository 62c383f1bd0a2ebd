"""Accounts and their weights in fair scheduling."""

from collections.abc import Iterable

from batchd.db.connection import Connection
from batchd.domain.ids import AccountId

_SET_WEIGHT = """
INSERT INTO weights (account, weight) VALUES ($1, $2)
ON CONFLICT (account) DO UPDATE SET weight = excluded.weight
"""


async def set_weight(connection: Connection, account: AccountId, weight: float) -> None:
    """Set the account's share relative to the default 1, for jobs queued from now on."""
    await connection.execute(_SET_WEIGHT, account, weight)


_FIND_WEIGHTS = """
SELECT account, count(*) AS users, coalesce(max(w.weight), 1) AS weight
FROM users LEFT JOIN weights w USING (account) GROUP BY account ORDER BY min(created_ts)
"""


async def find_weights(connection: Connection) -> Iterable[tuple[AccountId, float]]:
    """Return the accounts that have users and their weights, oldest first."""
    return [(row["account"], row["weight"]) for row in await connection.fetch(_FIND_WEIGHTS)]
