"""Temporary credentials from an endpoint that is slow, or fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.utils import ContainerMetadataFetcher

from batchd.domain.errors import ProcessingTimeout
from batchd.plugins.s3 import credentials as plugin
from batchd.plugins.s3 import s3_storage
from batchd.plugins.s3.errors import storage_call
from batchd.plugins.s3.presigning import Presigner
from batchd.plugins.s3.storage import S3Storage
from tests.support.polling import eventually
from tests.support.s3_proxy import ProxyResponse, s3_proxy
from tests.support.s3_storage import LINES, open_presigner, put, storage_context

CALLS = 40
ATTEMPTS = 3
"""Of aiobotocore, at one fetch."""
HOUR = timedelta(hours=1)


class Endpoint:
    """The endpoint for credentials of a container, which responds unless it is blocked."""

    def __init__(self) -> None:
        self.url = ""
        self.fetches = 0
        self.lifetime = HOUR
        self.fails = False
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.fetch_started = asyncio.Event()

    async def handle(self, _: web.Request) -> web.Response:
        self.fetches += 1
        number = self.fetches
        self.fetch_started.set()
        await self.unblocked.wait()
        if self.fails:
            return web.Response(status=404)
        return web.json_response(
            {
                "AccessKeyId": f"key{number}",
                "SecretAccessKey": "secret",
                "Token": "token",
                "Expiration": (datetime.now(UTC) + self.lifetime).isoformat(),
            }
        )

    def block(self) -> None:
        self.fetch_started.clear()
        self.unblocked.clear()


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_get("/credentials", endpoint.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    url = str(server.make_url("/credentials"))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)  # between its attempts
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    yield endpoint
    endpoint.unblocked.set()
    await server.close()


async def key_of(presigner: Presigner) -> str:
    """Sign a URL; return the access key that signed it."""
    with storage_call("sign", "key"):
        signed = await presigner.sign("get_object", "key", validity_s=60)
    return signed.url.partition("X-Amz-Credential=")[2].partition("%2F")[0]


async def keys_of(presigner: Presigner) -> set[str]:
    """Sign many URLs at once."""
    return set(await asyncio.gather(*(key_of(presigner) for _ in range(CALLS))))


async def test_credentials_are_fetched_once(endpoint: Endpoint) -> None:
    async with open_presigner(public_endpoint="https://files.example.com") as presigner:
        assert await keys_of(presigner) == {"key1"}
        assert await keys_of(presigner) == {"key1"}
    assert endpoint.fetches == 1


@pytest.mark.parametrize("lifetime", [timedelta(minutes=15), timedelta(minutes=5)])
async def test_short_lived_credentials_are_fetched_once(
    endpoint: Endpoint, lifetime: timedelta
) -> None:
    """aiobotocore by itself would fetch them for each call: it refreshes 15 minutes ahead."""
    endpoint.lifetime = lifetime
    async with open_presigner() as presigner:
        for _ in range(3):
            assert await keys_of(presigner) == {"key1"}
    assert endpoint.fetches == 1


async def test_no_call_waits_while_credentials_are_refreshed_ahead(endpoint: Endpoint) -> None:
    endpoint.lifetime = timedelta(seconds=8)  # refreshed after 4 s; calls wait in the last 2 s
    async with open_presigner() as presigner:
        endpoint.lifetime = HOUR
        endpoint.block()
        await asyncio.wait_for(endpoint.fetch_started.wait(), 30)

        assert await keys_of(presigner) == {"key1"}
        endpoint.unblocked.set()
        await eventually(lambda: key_of(presigner), lambda key: key == "key2")
    assert endpoint.fetches == 2


async def test_waiting_calls_share_one_fetch(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with expired(endpoint, monkeypatch) as presigner:
        endpoint.block()
        calls = asyncio.create_task(keys_of(presigner))
        await asyncio.wait_for(endpoint.fetch_started.wait(), 30)
        endpoint.unblocked.set()
        assert await calls == {"key2"}
    assert endpoint.fetches == 2


async def test_waiting_calls_share_one_failure(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "FAILURE_CACHED_S", 60.0)
    async with expired(endpoint, monkeypatch) as presigner:
        endpoint.fails = True
        outcomes = await asyncio.gather(
            *(key_of(presigner) for _ in range(CALLS)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {ProcessingTimeout}
        assert endpoint.fetches == 1 + ATTEMPTS

        endpoint.fails = False
        monkeypatch.setattr(plugin, "FAILURE_CACHED_S", 0.0)
        assert await key_of(presigner) == f"key{2 + ATTEMPTS}"


@asynccontextmanager
async def expired(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Presigner]:
    """Sign with credentials that may not be used any longer, and that nothing refreshes ahead."""
    monkeypatch.setattr(plugin, "WAIT_AHEAD_S", HOUR.total_seconds() / 5)
    monkeypatch.setattr(plugin, "REFRESH_AHEAD_S", 0.0)
    endpoint.lifetime = HOUR
    async with open_presigner() as presigner:
        later = datetime.now(UTC) + HOUR - timedelta(minutes=5)
        monkeypatch.setattr(presigner._credentials, "_time_fetcher", lambda: later)
        endpoint.lifetime = 3 * HOUR
        yield presigner


async def test_objects_are_signed_with_the_credentials_of_the_moment(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "WAIT_AHEAD_S", HOUR.total_seconds() / 5)
    monkeypatch.setattr(plugin, "REFRESH_AHEAD_S", 0.0)
    async with s3_proxy("http://127.0.0.1:1") as proxy:
        proxy.refusals.append(
            lambda _: ProxyResponse(status=200, headers={"ETag": '"1"'}, body=LINES)
        )
        async with s3_storage(storage_context(endpoint=proxy.url)) as storage:
            assert isinstance(storage, S3Storage)
            await put(storage, "key", LINES)
            later = datetime.now(UTC) + HOUR - timedelta(minutes=5)
            monkeypatch.setattr(storage.presigner._credentials, "_time_fetcher", lambda: later)
            endpoint.lifetime = 3 * HOUR
            await put(storage, "key", LINES)
            await put(storage, "key", LINES)

    puts = [request.headers for request in proxy.requests_with("PUT")]
    keys = [headers["authorization"].partition("Credential=")[2][:4] for headers in puts]
    assert keys == ["key1", "key2", "key2"]
    assert {headers["x-amz-security-token"] for headers in puts} == {"token"}
    assert endpoint.fetches == 2
