"""What the database itself sees of each batch: every status it has, in order."""

from dataclasses import dataclass

import pytest

from batchd.bootstrap import Components
from batchd.db.connection import Database
from batchd.domain.batches import TRANSITIONS, Status

GONE = "gone"
"""Stands for the end of the row."""

_RECORD = """
CREATE TABLE history (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch uuid NOT NULL,
    was text,
    became text
);

CREATE FUNCTION note_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO history (batch, became) VALUES (NEW.batch, NEW.status);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO history (batch, was) VALUES (OLD.batch, OLD.status);
    ELSIF NEW.status <> OLD.status THEN
        INSERT INTO history (batch, was, became) VALUES (NEW.batch, OLD.status, NEW.status);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER note_status AFTER INSERT OR UPDATE OR DELETE ON batches
FOR EACH ROW EXECUTE FUNCTION note_status();
"""


@dataclass(frozen=True, slots=True)
class History:
    """Reads what a trigger has recorded."""

    database: Database

    async def of(self, batch: str) -> list[str]:
        """Return the statuses that the batch has had, each change held against the legal ones."""
        async with self.database.connection() as connection:
            changes = await connection.fetch(
                "SELECT was, became FROM history WHERE batch = $1 ORDER BY no", batch
            )
        last = None
        for change in changes:
            assert change["was"] == last
            assert is_legal(change["was"], change["became"]), change
            last = change["became"]
        return [change["became"] or GONE for change in changes]


def is_legal(was: str | None, became: str | None) -> bool:
    if was is None:
        return became == Status.NEW
    if became is None:
        return was == Status.DELETING
    return Status(became) in TRANSITIONS[Status(was)]


@pytest.fixture
async def history(components: Components) -> History:
    """Record every change of a status from here on."""
    async with components.database.connection() as connection:
        await connection.execute(_RECORD)
    return History(components.database)
