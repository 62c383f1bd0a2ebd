"""The database password changes while the API runs: an outage with a clear reason."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from batchd.settings import Settings
from tests.support.callers import ApiCaller
from tests.support.polling import eventually
from tests.support.refusals import assert_refused

ROLE = f"rotated_{uuid4().hex}"


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Return a connection that creates the role of the API, and drops it afterwards."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD 'before'")
    yield connection
    await connection.execute(f"DROP ROLE {ROLE}")
    await connection.close()


@pytest.fixture
def settings(
    settings: Settings, database_url: str, admin: "asyncpg.Connection[asyncpg.Record]"
) -> Settings:
    assert not admin.is_closed()
    parts = urlsplit(database_url)
    server = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{ROLE}:before@{server}"))
    return settings.model_copy(update={"database_url": SecretStr(url)})


async def test_changed_password_is_an_outage_until_it_is_corrected(
    caller: ApiCaller,
    admin: "asyncpg.Connection[asyncpg.Record]",
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def whoami() -> int:
        return (await caller.get("/whoami")).status

    await admin.execute(f"ALTER ROLE {ROLE} PASSWORD 'after'")
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", ROLE
    )

    for path in ("/batches", "/batches", "/whoami"):
        refusal = await caller.get(path)
        assert_refused(refusal, 503, 503159)
        assert int(refusal.headers["Retry-After"]) >= 1
    assert (await caller.get("/readyz")).status == 503
    assert "the database refuses the credentials of BATCHD_DATABASE_URL" in caplog.text

    await admin.execute(f"ALTER ROLE {ROLE} PASSWORD 'before'")
    await eventually(whoami, lambda status: status == 200)
