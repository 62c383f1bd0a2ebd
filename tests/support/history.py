"""The history of each batch's status, recorded by a trigger in the database."""

from dataclasses import dataclass

import pytest

from batchd.bootstrap import Components
from batchd.db.connection import Database
from batchd.domain.batches import TRANSITIONS, Status

DELETED = "gone"
"""Takes the place of a status after the row has been deleted."""

_RECORD = """
CREATE TABLE history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch uuid NOT NULL,
    old_status text,
    new_status text
);

CREATE FUNCTION record_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO history (batch, new_status) VALUES (NEW.batch, NEW.status);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO history (batch, old_status) VALUES (OLD.batch, OLD.status);
    ELSIF NEW.status <> OLD.status THEN
        INSERT INTO history (batch, old_status, new_status)
        VALUES (NEW.batch, OLD.status, NEW.status);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER record_status AFTER INSERT OR UPDATE OR DELETE ON batches
FOR EACH ROW EXECUTE FUNCTION record_status();
"""


@dataclass(frozen=True, slots=True)
class History:
    """Reads the recorded changes."""

    database: Database

    async def of(self, batch: str) -> list[str]:
        """Return the statuses of the batch in order; assert that each change is legal."""
        async with self.database.connection() as connection:
            changes = await connection.fetch(
                "SELECT old_status, new_status FROM history WHERE batch = $1 ORDER BY id", batch
            )
        transitions = [(change["old_status"], change["new_status"]) for change in changes]
        statuses = [new_status for _, new_status in transitions]
        assert [old_status for old_status, _ in transitions] == [None, *statuses][:-1]
        assert [each for each in transitions if not is_legal(*each)] == []
        return [status or DELETED for status in statuses]


def is_legal(old_status: str | None, new_status: str | None) -> bool:
    if old_status is None:
        return new_status == Status.NEW
    if new_status is None:
        return old_status == Status.DELETING
    return Status(new_status) in TRANSITIONS[Status(old_status)]


@pytest.fixture
async def history(components: Components) -> History:
    """Record every change of a status from now on."""
    async with components.database.connection() as connection:
        await connection.execute(_RECORD)
    return History(components.database)
