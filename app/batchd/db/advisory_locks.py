"""Advisory locks: work that one process at a time does for all."""

from batchd.db.connection import Connection

SWEEPER = 1

_NAMESPACE = 0x62617463  # "batc": keeps clear of other users of the same database

_TRY_HOLD = "SELECT pg_try_advisory_xact_lock($1, $2)"


async def try_hold(connection: Connection, lock: int) -> bool:
    """Hold the lock until the transaction ends; False if another session has it."""
    held: bool = await connection.fetchval(_TRY_HOLD, _NAMESPACE, lock)
    return held
