"""Presigned URLs of the S3 storage, used over plain HTTP as callers do."""

import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.ports import Storage
from batchd.plugins.s3.multipart import PART_BYTES
from tests.support.polling import eventually
from tests.support.s3_storage import (
    LINES,
    encoded,
    get,
    keys_of,
    open_presigner,
    open_storage,
    put,
    s3_values,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_file_is_uploaded_and_downloaded_by_urls(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    upload = await storage.presign_upload(key, validity_s=60)
    async with browser.put(encoded(upload), data=LINES) as response:
        assert response.status == HTTPStatus.OK
    download = await storage.presign_download(key, validity_s=60, filename="b7.jsonl")
    async with browser.get(encoded(download)) as response:
        assert response.status == HTTPStatus.OK
        assert await response.read() == LINES
        assert response.headers["Content-Disposition"] == 'attachment; filename="b7.jsonl"'
        assert response.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"


@pytest.mark.parametrize("name", ["a b+c&d=e?f#g%20h", "ü/日本/~-._", "'quoted' (1)!*"])
async def test_url_of_a_key_with_special_characters_works(
    storage: Storage, browser: aiohttp.ClientSession, key: str, name: str
) -> None:
    upload = await storage.presign_upload(f"{key}/{name}", validity_s=60)
    async with browser.put(encoded(upload), data=LINES) as response:
        assert response.status == HTTPStatus.OK
    assert await get(storage, f"{key}/{name}") == LINES
    assert await keys_of(storage, key) == [f"{key}/{name}"]


async def test_url_expires_when_the_storage_enforces_it(storage: Storage, key: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    url = await storage.presign_download(key, validity_s=900, filename="b.jsonl")
    query = URL(url.url).query
    signed_at = datetime.strptime(query["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    assert url.validity_ts == signed_at + timedelta(seconds=int(query["X-Amz-Expires"]))
    assert query["X-Amz-Expires"] == "900"
    assert url.validity_ts.tzinfo is UTC
    assert before <= signed_at <= datetime.now(UTC)


async def test_url_validity_is_at_most_seven_days(storage: Storage, key: str) -> None:
    url = await storage.presign_upload(key, validity_s=30 * 24 * 3600)
    assert url.validity_ts <= datetime.now(UTC) + timedelta(days=7)
    assert URL(url.url).query["X-Amz-Expires"] == "604800"


@pytest.mark.slow
async def test_url_stops_working_at_its_expiry_time(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    await put(storage, key, LINES)
    url = await storage.presign_download(key, validity_s=2, filename="b.jsonl")
    accepted: list[datetime] = []

    async def download() -> HTTPStatus:
        sent_at = datetime.now(UTC)
        async with browser.get(encoded(url)) as response:
            status = HTTPStatus(response.status)
        if status == HTTPStatus.OK:
            accepted.append(sent_at)
        return status

    assert await eventually(download, lambda status: status != HTTPStatus.OK) == (
        HTTPStatus.FORBIDDEN
    )
    assert datetime.now(UTC) >= url.validity_ts - timedelta(seconds=1)
    assert accepted
    assert accepted[-1] <= url.validity_ts + timedelta(seconds=1)


async def test_url_permits_no_other_key_and_no_other_method(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    await put(storage, key, LINES)
    await put(storage, f"{key}-other", LINES)
    url = await storage.presign_download(key, validity_s=60, filename="b.jsonl")
    other_key = url.url.replace(key, f"{key}-other")
    async with browser.get(URL(other_key, encoded=True)) as response:
        assert response.status == HTTPStatus.FORBIDDEN
    longer = url.url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")
    async with browser.get(URL(longer, encoded=True)) as response:
        assert response.status == HTTPStatus.FORBIDDEN
    async with browser.put(encoded(url), data=b"forged") as response:
        assert response.status == HTTPStatus.FORBIDDEN
    assert await get(storage, key) == LINES


async def test_urls_name_the_public_endpoint(s3: SeaweedFS) -> None:
    async with open_storage(s3, public_endpoint="https://files.example.com/") as storage:
        url = await storage.presign_upload("uploads/1", validity_s=60)
        assert url.url.startswith("https://files.example.com/batchd/uploads/1?X-Amz-Algorithm=")
        # The service itself is still reached at its own endpoint.
        await storage.check()


async def test_urls_name_the_bucket_in_the_host_with_virtual_addressing() -> None:
    async with open_presigner(
        endpoint="http://s3.internal:8333",
        public_endpoint="https://files.example.com:8443",
        addressing="virtual",
        access_key="access",
        secret_key="secret",
    ) as presigner:
        url = await presigner.sign("put_object", "uploads/1", validity_s=60)
    assert url.url.startswith("https://batchd.files.example.com:8443/uploads/1?")


@pytest.mark.parametrize(
    ("addressing", "host"), [("path", "localhost"), ("virtual", "batchd.localhost")]
)
async def test_urls_of_both_addressings_work(
    s3: SeaweedFS, key: str, addressing: str, host: str
) -> None:
    endpoint = s3.endpoint.replace("127.0.0.1", "localhost")
    values = s3_values(s3) | {"endpoint": endpoint, "addressing": addressing}
    async with (
        open_presigner(**values) as presigner,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=ToLoopback())) as browser,
    ):
        upload = await presigner.sign("put_object", key, validity_s=60)
        async with browser.put(encoded(upload), data=LINES) as response:
            assert response.status == HTTPStatus.OK
        download = await presigner.sign("get_object", key, validity_s=60)
        async with browser.get(encoded(download)) as response:
            assert response.status == HTTPStatus.OK
            assert await response.read() == LINES
    assert URL(upload.url).host == URL(download.url).host == host
    async with open_storage(s3) as storage:
        assert await get(storage, key) == LINES


class ToLoopback(AbstractResolver):
    """Finds every name on this machine, as browsers do with those below localhost."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("addressing", "start"),
    [
        ("path", "https://s3.eu-central-1.amazonaws.com/batchd/uploads/1?"),
        ("virtual", "https://batchd.s3.eu-central-1.amazonaws.com/uploads/1?"),
    ],
)
async def test_urls_name_aws_without_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, addressing: str, start: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ambient")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of a role")
    async with open_presigner(region="eu-central-1", addressing=addressing) as presigner:
        url = await presigner.sign("put_object", "uploads/1", validity_s=60)
    assert url.url.startswith(start)
    assert URL(url.url).query["X-Amz-Credential"].startswith("ambient/")
    assert URL(url.url).query["X-Amz-Security-Token"] == "of a role"


async def test_incomplete_upload_leaves_nothing(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    async def truncated_body() -> AsyncIterator[bytes]:
        yield b"x" * PART_BYTES
        raise ConnectionAbortedError

    url = await storage.presign_upload(key, validity_s=60)
    with pytest.raises(aiohttp.ClientError):
        await browser.put(
            encoded(url), data=truncated_body(), headers={"Content-Length": str(2 * PART_BYTES)}
        )
    # The server reads on until it sees the end of the connection: ask it for something else after.
    await put(storage, f"{key}-after", LINES)
    assert await storage.stat(key) is None
