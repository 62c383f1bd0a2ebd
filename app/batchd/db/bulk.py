"""Bulk statements: in slices, each with a longer time limit than usual, here and on the server."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from batchd.db.connection import Connection
from batchd.db.server import limit_in_transaction

SLICE_ROWS = 5_000
"""A few hundred milliseconds on a server that is not busy."""
TIMEOUT_S = 30.0
"""Time limit of one slice."""

T = TypeVar("T")


def slices(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the rows in slices."""
    for start in range(0, len(rows), SLICE_ROWS):
        yield rows[start : start + SLICE_ROWS]


async def copy_in_slices(
    connection: Connection,
    table: str,
    *,
    columns: Sequence[str],
    records: Sequence[Sequence[object]],
) -> None:
    """Insert the records. Each slice is a transaction of its own, unless there is one already."""
    for slice_records in slices(records):
        async with connection.transaction():
            await limit_in_transaction(connection, TIMEOUT_S)
            await connection.copy_records_to_table(
                table, columns=columns, records=slice_records, timeout=TIMEOUT_S
            )


async def delete_in_slices(connection: Connection, statement: str, *arguments: Any) -> None:
    """Repeat a deletion, whose last parameter is its number of rows, until nothing is left.

    Each slice is a transaction of its own, unless there is one already.
    """
    deleted = SLICE_ROWS
    while deleted == SLICE_ROWS:
        async with connection.transaction():
            await limit_in_transaction(connection, TIMEOUT_S)
            tag = await connection.execute(statement, *arguments, SLICE_ROWS, timeout=TIMEOUT_S)
        deleted = int(tag.rpartition(" ")[2])


async def update_in_slices(
    connection: Connection, statement: str, *arguments: Any, start: int = 0
) -> None:
    """Repeat an update of rows that are numbered, until there is none with a higher number.

    Its last parameters are the first number and the number of rows; it returns each row's number.
    Each slice is a transaction of its own, unless there is one already.
    """
    while True:
        async with connection.transaction():
            await limit_in_transaction(connection, TIMEOUT_S)
            rows = await connection.fetch(
                statement, *arguments, start, SLICE_ROWS, timeout=TIMEOUT_S
            )
        if not rows:
            return
        start = max(row[0] for row in rows) + 1
