"""Idempotency keys: the batch that each create_batch request with a key created."""

from datetime import timedelta

from batchd.db.connection import Connection
from batchd.domain.ids import AccountId, BatchId

# Of two concurrent requests, the second waits here for the first, and then conflicts with its row.
_CLAIM = """
INSERT INTO idempotency_keys (account, key, request_hash, batch, created_ts)
VALUES ($1, $2, $3, $4, now())
ON CONFLICT DO NOTHING RETURNING 1
"""


async def claim(
    connection: Connection,
    account: AccountId,
    key: str,
    *,
    request_hash: bytes,
    batch: BatchId,
) -> bool:
    """Record the request and its batch under the key; False if the key has been used already."""
    claimed = await connection.fetchval(_CLAIM, account, key, request_hash, batch)
    return claimed is not None


_FIND = "SELECT request_hash, batch FROM idempotency_keys WHERE account = $1 AND key = $2"


async def find(
    connection: Connection, account: AccountId, key: str
) -> tuple[bytes, BatchId] | None:
    row = await connection.fetchrow(_FIND, account, key)
    return None if row is None else (row["request_hash"], row["batch"])


# Limited, like every deletion of the supervisor.
_PRUNE = """
DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM idempotency_keys WHERE created_ts < now() - $1::interval LIMIT 20000
))
"""


async def prune(connection: Connection, *, lifetime: timedelta) -> None:
    await connection.execute(_PRUNE, lifetime)
