"""Advisory locks: for work that only one process does at a time."""

from batchd.db.connection import Connection

SUPERVISOR = 1

_NAMESPACE = 0x62617463  # "batc": avoids collisions with other applications in the database

_TRY_ACQUIRE = "SELECT pg_try_advisory_xact_lock($1, $2)"


async def try_acquire(connection: Connection, lock: int) -> bool:
    """Acquire the lock until the transaction ends; False if another session holds it."""
    acquired: bool = await connection.fetchval(_TRY_ACQUIRE, _NAMESPACE, lock)
    return acquired
