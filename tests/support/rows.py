"""Batches inserted directly into the database, for tests that need many or none of the API."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from batchd.bootstrap import Components
from batchd.domain.batches import Batch, Status
from batchd.domain.ids import AccountId, BatchId, Handler, UserId
from tests.support.callers import ApiCaller

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(milliseconds: int) -> datetime:
    """Return the time this many milliseconds after T0."""
    return T0 + timedelta(milliseconds=milliseconds)


@dataclass(frozen=True, slots=True)
class Row:
    batch: str
    created_ts: datetime
    status: Status


def new_batch(
    account: AccountId | None = None,
    *,
    size: int = 0,
    status: Status = Status.NEW,
    priority: int = 0,
) -> Batch:
    """Return a batch that has not been inserted."""
    return Batch(
        batch=BatchId(uuid4()),
        account=account or AccountId(uuid4()),
        user=UserId(uuid4()),
        handler=Handler(uuid4()),
        operation="get_batch",
        status=status,
        created_ts=T0,
        updated_ts=T0,
        hash=None,
        batch_dict=None,
        priority=priority,
        attempt=0,
        input_key=None,
        input_problem=None,
        input_size=size,
        lines=None,
        download_key=None,
        results=None,
    )


async def insert_batches(
    components: Components, owner: ApiCaller, rows: Iterable[tuple[datetime, Status]]
) -> list[Row]:
    """Add batches of the owner's account, each with a random id; return them newest first."""
    user = owner.user.user
    records = [
        (
            uuid4(),
            user.account,
            user.user,
            uuid4(),
            b"",
            "get_batch",
            status,
            created_ts,
            created_ts,
        )
        for created_ts, status in rows
    ]
    columns = "batch account user_id handler request_hash operation status created_ts updated_ts"
    async with components.database.connection() as connection:
        await connection.copy_records_to_table("batches", columns=columns.split(), records=records)
    inserted = [Row(str(record[0]), record[7], record[6]) for record in records]
    return sorted(inserted, key=lambda row: (row.created_ts, row.batch), reverse=True)
