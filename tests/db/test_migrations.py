"""The migrations: up, down and up again, without blocking requests for long."""

import asyncio
import re
import shutil
import sys
from pathlib import Path

import asyncpg
import pytest

from batchd.db.migrations import SchemaTooOld, check_schema, migrate, required_versions
from batchd.devstack.postgres_cluster import CLEAN_ENVIRONMENT, program_path
from batchd.domain.jobs import Job, Stage
from batchd.shipped import shipped_folder

MIGRATIONS = sorted(shipped_folder("migrations").glob("*.sql"))
# A batch that was deleted is buried as well: its row is gone.
_BURIED_BATCH = """
WITH creator AS (
    INSERT INTO users VALUES (gen_random_uuid(), gen_random_uuid(), 'admin', '', now())
    RETURNING user_id, account
), ended AS (
    INSERT INTO batches (batch, account, user_id, handler, request_hash, operation, status,
        created_ts, updated_ts)
    SELECT gen_random_uuid(), account, user_id, gen_random_uuid(), '', 'no_op', 'completed',
        now(), now()
    FROM creator RETURNING batch, account, handler
), deleted AS (
    INSERT INTO graveyard
    VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now() + interval '1 day')
)
INSERT INTO graveyard SELECT batch, account, handler, now() + interval '1 day' FROM ended
RETURNING batch
"""
DBMATE = str(Path(sys.executable).parent / "dbmate")


async def run(*command: str | Path, **env: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**CLEAN_ENVIRONMENT, **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def dbmate(url: str, command: str, folder: Path) -> None:
    options = ("--migrations-dir", folder, "--no-dump-schema", "--env-file", "")
    await run(DBMATE, *options, command, DATABASE_URL=f"{url}?sslmode=disable")


async def schema_of(url: str) -> str:
    """Return the schema as SQL, without the table that dbmate keeps for itself."""
    # The key would be another one each time.
    options = ("--schema-only", "--exclude-table=schema_migrations", "--restrict-key=same")
    return await run(program_path("pg_dump"), *options, f"--dbname={url}")


def directions(migration: Path) -> dict[str, str]:
    """Return what the migration does, without comments, by the line that begins each direction."""
    parts = re.split(r"^(-- migrate:.*)\n", migration.read_text(), flags=re.MULTILINE)
    assert parts[0] == ""
    texts = (re.sub(r"--.*", "", text) for text in parts[2::2])
    return dict(zip(parts[1::2], texts, strict=True))


@pytest.mark.slow
async def test_migrations_are_reversible(empty_database_url: str, tmp_path: Path) -> None:
    url = empty_database_url
    stairs = [await schema_of(url)]
    for migration in MIGRATIONS:
        shutil.copy(migration, tmp_path)
        await dbmate(url, "up", tmp_path)
        stairs.append(await schema_of(url))
    assert len(set(stairs)) == len(MIGRATIONS) + 1

    for expected in stairs[-2::-1]:
        await dbmate(url, "rollback", shipped_folder("migrations"))
        assert await schema_of(url) == expected

    await migrate(url)
    assert await schema_of(url) == stairs[-1]


@pytest.mark.slow
async def test_downgrade_hands_buried_files_to_the_previous_version(
    empty_database_url: str,
) -> None:
    url, version = empty_database_url, "20261125000001"
    await migrate(url)
    connection = await asyncpg.connect(url)
    batch = await connection.fetchval(_BURIED_BATCH)
    while version in await connection.fetchval("SELECT array_agg(version) FROM schema_migrations"):
        await dbmate(url, "rollback", shipped_folder("migrations"))
    (job,) = await connection.fetch("SELECT payload, execute_after > now() AS waits FROM pgqueuer")
    await connection.close()
    assert Job.decode(job["payload"]) == Job(Stage.CLEANUP, batch)
    assert job["waits"]


async def test_schema_is_checked_against_the_migrations(
    database_url: str, empty_database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await check_schema(connection)
    await connection.close()

    connection = await asyncpg.connect(empty_database_url)
    with pytest.raises(SchemaTooOld) as refusal:
        await check_schema(connection)
    await connection.close()
    assert all(version in str(refusal.value) for version in required_versions())


async def test_schema_of_a_later_version_is_accepted(database_url: str) -> None:
    """So that the processes of this version go on while those of the next one are started."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO schema_migrations VALUES ('99990101000000')")
    await check_schema(connection)
    await connection.close()


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda path: path.stem)
def test_migrations_have_lock_and_statement_timeouts(migration: Path) -> None:
    both = directions(migration)

    # Without options: outside of a transaction, SET LOCAL would be without effect.
    assert list(both) == ["-- migrate:up", "-- migrate:down"]
    for statements in both.values():
        first, second, *rest = (statement.strip() for statement in statements.split(";"))
        assert re.fullmatch(r"SET LOCAL lock_timeout = '[1-9]s'", first)
        assert re.fullmatch(r"SET LOCAL statement_timeout = '[1-9]\d?s'", second)
        assert any(rest)


def test_migrations_are_ordered() -> None:
    versions = [migration.name.split("_")[0] for migration in MIGRATIONS]

    assert all(re.fullmatch(r"\d{14}", version) for version in versions)
    assert len(set(versions)) == len(versions)
    assert required_versions() == set(versions)
