"""A client disconnects during a change: it is made completely, or not at all."""

import json

import pytest

from batchd.bootstrap import Components
from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.databases import row_lock
from tests.support.polling import NEVER_S, eventually
from tests.support.raw_http import raw_connection, request

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
COUNT_CREATED = """
SELECT (SELECT count(*) FROM batches) AS batches, (SELECT count(*) FROM pgqueuer) AS jobs,
    (SELECT count(*) FROM idempotency_keys) AS keys,
    (SELECT count(*) FROM uploads WHERE batch IS NOT NULL) AS uploads_taken
"""
COUNT_WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
NOTHING = {"batches": 0, "jobs": 0, "keys": 0, "uploads_taken": 0}
ONE_BATCH = dict.fromkeys(NOTHING, 1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Let no statement time out: those of a client that left are cancelled."""
    return settings.model_copy(update={"database_timeout_s": NEVER_S})


@pytest.fixture
def api_url(url_on_each_loop: str) -> str:
    return url_on_each_loop


async def count_created(components: Components) -> dict[str, int]:
    async with components.database.connection() as connection:
        row = await connection.fetchrow(COUNT_CREATED)
    assert row is not None
    return dict(row)


async def count_waiting(components: Components) -> int:
    """Return how many statements wait for a lock."""
    async with components.database.connection() as connection:
        count: int = await connection.fetchval(COUNT_WAITING)
    return count


def bytes_of(caller: ApiCaller, first: bytes, body: dict[str, str]) -> bytes:
    data = json.dumps(body).encode()
    headers = [f"Authorization: {caller.user.secret}".encode(), b"Idempotency-Key: k"]
    return request(first, *headers, b"Content-Length: %d" % len(data), body=data)


async def call(url: str, data: bytes) -> Reply:
    async with raw_connection(url) as connection:
        await connection.send(data)
        return await connection.read_reply()


async def disconnect_while_waiting(url: str, data: bytes, components: Components) -> None:
    """Send it all, and go away once the database waits; return when it does no more."""
    async with raw_connection(url) as connection:
        await connection.send(data)
        await eventually(lambda: count_waiting(components), lambda count: count == 1)
        connection.break_off()
        await eventually(lambda: count_waiting(components), lambda count: count == 0)


@pytest.fixture
async def post(caller: ApiCaller) -> bytes:
    """Return a call that would make a batch."""
    body = {"handler": await caller.upload(LINES), "operation": "get_batch"}
    return bytes_of(caller, b"POST /batches HTTP/1.1", body)


async def test_incomplete_request_changes_nothing(
    api_url: str, components: Components, post: bytes
) -> None:
    for cut in (10, 60, len(post) - 40, len(post) - 1):
        async with raw_connection(api_url) as connection:
            await connection.send(post[:cut])
            connection.break_off()

    assert (await call(api_url, post)).status == 201
    assert await count_created(components) == ONE_BATCH


@pytest.mark.slow
async def test_disconnect_during_creation_leaves_no_partial_batch(
    api_url: str, database_url: str, components: Components, post: bytes
) -> None:
    async with row_lock(database_url, "uploads"):
        await disconnect_while_waiting(api_url, post, components)
    assert await count_created(components) == NOTHING

    first, second = await call(api_url, post), await call(api_url, post)
    assert (first.status, second.status) == (201, 201)
    assert first.body == second.body
    assert await count_created(components) == ONE_BATCH


async def test_retry_after_a_disconnect_returns_the_created_batch(
    api_url: str, components: Components, post: bytes
) -> None:
    async with raw_connection(api_url) as connection:
        await connection.send(post)
        await eventually(lambda: count_created(components), ONE_BATCH.__eq__)
        connection.break_off()

    assert (await call(api_url, post)).status == 201
    assert await count_created(components) == ONE_BATCH


@pytest.mark.slow
async def test_disconnect_during_cancellation_leaves_no_partial_change(
    caller: ApiCaller, api_url: str, database_url: str, components: Components
) -> None:
    batch = await caller.create(LINES)
    before = await count_created(components)
    patch = bytes_of(caller, f"PATCH /batches/{batch} HTTP/1.1".encode(), {"status": "cancel"})
    async with row_lock(database_url, "batches"):
        await disconnect_while_waiting(api_url, patch, components)
    assert await caller.status(batch) == "new"
    assert await count_created(components) == before

    assert (await call(api_url, patch)).body["status"] == "cancel"
