"""Advisory locks: for work that one process, or one transaction of an account, does at a time."""

from enum import StrEnum

from batchd.db.connection import Connection
from batchd.domain.ids import AccountId

SUPERVISOR = 1

_NAMESPACE = 0x62617463  # "batc": avoids collisions with other applications in the database


class AccountLock(StrEnum):
    """What an account may only create one at a time, because the number is limited."""

    BATCHES = "batches"
    UPLOADS = "uploads"


_TRY_ACQUIRE = "SELECT pg_try_advisory_xact_lock($1, $2)"


async def try_acquire(connection: Connection, lock: int) -> bool:
    """Acquire the lock until the transaction ends; False if another session holds it."""
    acquired: bool = await connection.fetchval(_TRY_ACQUIRE, _NAMESPACE, lock)
    return acquired


# Two accounts whose hashes collide only wait for each other.
_ACQUIRE_FOR_ACCOUNT = "SELECT pg_advisory_xact_lock(hashtextextended($1, $2))"


async def acquire_for_account(
    connection: Connection, lock: AccountLock, account: AccountId
) -> None:
    """Wait for the account's lock, and hold it until the transaction ends."""
    await connection.execute(_ACQUIRE_FOR_ACCOUNT, f"{lock}:{account}", _NAMESPACE)
