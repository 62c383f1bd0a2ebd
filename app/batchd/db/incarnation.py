"""The incarnation of the database: another one may have forgotten what was committed."""

from batchd.db.connection import Connection
from batchd.domain.ids import BatchId

# A standby that is promoted and a cluster that is restored run under another postmaster; a dump is
# restored into another database, or into tables that are created again. Also changed by a mere
# restart, which does no harm. Everybody may ask for it, unlike the timeline.
_CURRENT = """concat_ws('/',
    extract(epoch FROM pg_postmaster_start_time()),
    (SELECT oid FROM pg_database WHERE datname = current_database()),
    'chunks'::regclass::oid
)"""

_RECORD = f"UPDATE batches SET incarnation = {_CURRENT} WHERE batch = $1"


async def record(connection: Connection, batch: BatchId) -> None:
    """Record in which incarnation the batch got its copy."""
    await connection.execute(_RECORD, batch)


_IS_CURRENT = f"""
SELECT EXISTS (SELECT FROM batches WHERE batch = $1 AND incarnation = {_CURRENT})
"""


async def is_current(connection: Connection, batch: BatchId) -> bool:
    """Return whether the database remembers all that was done with the batch's copy."""
    current: bool = await connection.fetchval(_IS_CURRENT, batch)
    return current
