"""Outages of the database or the storage: 503 without a long wait, and Retry-After."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from batchd.bootstrap import Components
from batchd.devstack.postgres import Postgres
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.polling import eventually
from tests.support.refusals import assert_refused
from tests.support.relay import Relay, relay_to
from tests.support.stepping import ended_batch

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
DATABASE_TIMEOUT_S = 2.0
REQUESTS = 30
CANCEL = {"status": "cancel"}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Relay]:
    """Stand between the API and its database."""
    async with relay_to(database_url) as relay:
        yield relay


@pytest.fixture
async def storage(s3: SeaweedFS) -> AsyncIterator[Relay]:
    """Stand between the API and its storage."""
    async with relay_to(s3.endpoint) as relay:
        yield relay


@pytest.fixture
def settings(settings: Settings, database: Relay) -> Settings:
    return settings.model_copy(
        update={
            "database_url": SecretStr(database.url),
            "database_timeout_s": DATABASE_TIMEOUT_S,
        }
    )


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], storage: Relay) -> Mapping[str, str]:
    return {**plugin_environment, "BATCHD_S3_ENDPOINT": storage.url}


def assert_unavailable(reply: Reply) -> None:
    assert_refused(reply, 503, 503159)
    assert 1 <= int(reply.headers["Retry-After"]) <= 60


async def every_operation(caller: ApiCaller) -> list[Reply]:
    """Call each operation in a form that would pass."""
    body = {"handler": str(uuid4()), "operation": "get_batch"}
    return [
        await caller.get(f"/batches/{uuid4()}"),
        await caller.get("/batches"),
        await caller.call("POST", "/batches", json=body),
        await caller.call("PATCH", f"/batches/{uuid4()}", json=CANCEL),
        await caller.call("DELETE", f"/batches/{uuid4()}"),
        await caller.call("POST", "/cache"),
        await caller.call("DELETE", f"/cache/{uuid4()}"),
        await caller.get("/whoami"),
    ]


async def whoami_status(caller: ApiCaller) -> int:
    return (await caller.get("/whoami")).status


async def test_every_operation_reports_a_stopped_database(
    caller: ApiCaller, database: Relay, subtests: pytest.Subtests
) -> None:
    await database.cut()

    for reply in await every_operation(caller):
        with subtests.test(reply=reply):
            assert_unavailable(reply)
    await database.mend()
    await eventually(lambda: whoami_status(caller), lambda status: status == 200)
    statuses = [reply.status for reply in await every_operation(caller)]
    assert statuses == [404, 200, 404, 404, 404, 201, 404, 200]


@pytest.mark.slow
async def test_silent_database_times_out(caller: ApiCaller, database: Relay) -> None:
    database.silence()
    started = time.monotonic()

    for reply in await asyncio.gather(*(caller.get("/whoami") for _ in range(REQUESTS))):
        assert_unavailable(reply)
    # Together, not one after the other.
    assert time.monotonic() - started < REQUESTS * DATABASE_TIMEOUT_S / 2


async def test_database_that_accepts_no_connections_is_unavailable(
    caller: ApiCaller, postgres: Postgres, database_url: str
) -> None:
    name = database_url.rpartition("/")[2]
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
        for _ in range(3):
            assert_unavailable(await caller.get("/whoami"))
        await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    finally:
        await connection.close()
    await eventually(lambda: whoami_status(caller), lambda status: status == 200)


@asynccontextmanager
async def locked(database_url: str, batch: str) -> AsyncIterator[None]:
    """Hold the batch, as another transaction would that does not end."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM batches WHERE batch = $1 FOR UPDATE", batch)
            yield
    finally:
        await connection.close()


@pytest.mark.slow
async def test_change_that_waits_too_long_is_not_made(caller: ApiCaller, database_url: str) -> None:
    batch = await caller.create(LINES)
    async with locked(database_url, batch):
        assert_unavailable(await caller.call("PATCH", f"/batches/{batch}", json=CANCEL))
        assert await caller.status(batch) == "new"

    assert await caller.status(batch) == "new"
    assert (await caller.call("PATCH", f"/batches/{batch}", json=CANCEL)).status == 200


async def test_batch_is_not_created_while_the_storage_is_unavailable(
    caller: ApiCaller, storage: Relay
) -> None:
    body = {"handler": await caller.upload(LINES), "operation": "get_batch"}
    await storage.cut()

    assert_unavailable(await caller.call("POST", "/batches", json=body))
    assert (await caller.get("/batches")).body == {"batches": {}}
    await storage.mend()
    assert (await caller.call("POST", "/batches", json=body)).status == 201


async def test_operations_without_storage_work_while_it_is_unavailable(
    caller: ApiCaller, components: Components, storage: Relay
) -> None:
    batch = await ended_batch(components, caller, LINES)
    new = await caller.create(LINES)
    await storage.cut()

    assert (await caller.get(f"/batches/{batch}?download=true")).body["download"]
    assert (await caller.get("/batches")).body["batches"].keys() == {batch, new}
    assert (await caller.call("PATCH", f"/batches/{new}", json=CANCEL)).status == 200
    assert (await caller.call("DELETE", f"/batches/{batch}")).body["status"] == "deleting"
    assert (await caller.call("POST", "/cache")).status == 201


async def test_upload_is_invalidated_although_its_file_could_not_be_deleted(
    caller: ApiCaller, storage: Relay
) -> None:
    handler = await caller.upload(LINES)
    body = {"handler": handler, "operation": "get_batch"}
    await storage.cut()

    assert (await caller.call("DELETE", f"/cache/{handler}")).status == 200
    await storage.mend()
    assert_refused(await caller.call("POST", "/batches", json=body), 404, 404653)


@pytest.mark.slow
async def test_readiness_names_what_is_unavailable(
    caller: ApiCaller, database: Relay, storage: Relay
) -> None:
    def names(part: str) -> Callable[[Reply], bool]:
        return lambda reply: reply.status == 503 and part in reply.body["description"]

    # What it says is at most a second old.
    assert (await caller.get("/readyz")).status == 200
    await storage.cut()
    reply = await eventually(lambda: caller.get("/readyz"), names("storage"))
    assert_unavailable(reply)
    assert "database" not in reply.body["description"]
    await database.cut()
    assert_unavailable(await eventually(lambda: caller.get("/readyz"), names("database")))
    assert (await caller.get("/healthz")).status == 200
