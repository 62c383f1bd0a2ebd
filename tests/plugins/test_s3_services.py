"""S3 services that differ from AWS, each simulated by a proxy that refuses calls."""

import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest

from batchd.configuration import InvalidSettings
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import StorageRefused
from batchd.domain.ports import ObjectMissing, ObjectWriter, Storage
from batchd.plugins.s3.access import PROBE_KEY
from batchd.plugins.s3.multipart import PART_BYTES
from tests.support.s3_proxy import (
    EqualParts,
    S3Proxy,
    bucket_in,
    bulk_deletion_wants_md5,
    missing_is_forbidden,
    no_access,
    no_bulk_deletion,
    no_listing,
    no_part_copy,
    no_such_region,
    part_copy_is_empty,
    s3_proxy,
)
from tests.support.s3_storage import LINES, encoded, get, keys_of, open_storage, put, size_of

LARGE = b"".join(b"%015d\n" % number for number in range((3 * PART_BYTES + 16) // 16))
REGION = "eu-central-1"


@pytest.fixture
async def proxy(s3: SeaweedFS) -> AsyncIterator[S3Proxy]:
    async with s3_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def proxied(s3: SeaweedFS, proxy: S3Proxy) -> AsyncIterator[Storage]:
    async with open_storage(s3, endpoint=proxy.url) as storage:
        yield storage


async def assemble(storage: Storage, key: str) -> bytes:
    """Write an object from what is written and what is appended; return what it must contain."""
    await put(storage, f"{key}.large", LARGE)
    async with storage.write(key, expected_bytes=len(LARGE)) as writer:
        await writer.write(b"before\n")
        assert await writer.append(f"{key}.large", len(LARGE)) or await _write(writer, LARGE)
        await writer.write(b"between\n")
        assert await writer.append(f"{key}.large", len(LARGE)) or await _write(writer, LARGE)
        await writer.write(b"after\n")
    return b"before\n" + LARGE + b"between\n" + LARGE + b"after\n"


async def _write(writer: ObjectWriter, data: bytes) -> bool:
    await writer.write(data)
    return True


async def test_parts_have_one_size_and_the_last_is_no_larger(
    proxied: Storage, proxy: S3Proxy, key: str
) -> None:
    proxy.refusals.append(EqualParts())

    expected = await assemble(proxied, key)

    assert await get(proxied, key) == expected
    assert proxy.requests_with("PUT", header="x-amz-copy-source")


async def test_missing_support_for_part_copies_is_detected_once(
    proxied: Storage, proxy: S3Proxy, key: str
) -> None:
    proxy.refusals.append(no_part_copy)

    expected = await assemble(proxied, key)

    assert await get(proxied, key) == expected
    assert len(proxy.requests_with("PUT", header="x-amz-copy-source")) == 1


async def test_ignored_source_of_a_copy_is_detected(
    proxied: Storage, proxy: S3Proxy, key: str
) -> None:
    proxy.refusals.append(part_copy_is_empty)

    expected = await assemble(proxied, key)

    assert await get(proxied, key) == expected


async def test_missing_support_for_bulk_deletion_is_detected_once(
    proxied: Storage, proxy: S3Proxy, key: str
) -> None:
    proxy.refusals.append(no_bulk_deletion)
    keys = [f"{key}/{number}" for number in range(25)]
    for each in keys:
        await put(proxied, each, LINES)

    await proxied.delete([*keys, f"{key}/never-there"])
    await proxied.delete(keys)

    assert await keys_of(proxied, f"{key}/") == []
    assert len(proxy.requests_with("POST", query="delete")) == 1


async def test_bulk_deletion_has_the_digest_that_older_services_require(
    proxied: Storage, proxy: S3Proxy, key: str
) -> None:
    proxy.refusals.append(bulk_deletion_wants_md5)
    await put(proxied, key, LINES)

    await proxied.delete([key])

    assert await proxied.stat(key) is None
    assert proxy.requests_with("POST", query="delete")
    assert not proxy.requests_with("DELETE")


async def test_requests_are_signed_for_the_region_of_the_bucket(
    s3: SeaweedFS, proxy: S3Proxy, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refusals.append(bucket_in(REGION))

    async with open_storage(s3, endpoint=proxy.url) as storage, aiohttp.ClientSession() as browser:
        opened = len(proxy.requests)
        upload = await storage.presign_upload(key, validity_s=60)
        async with browser.put(encoded(upload), data=LINES) as response:
            assert response.status == 200
        assert await get(storage, key) == LINES
        await storage.check()

    assert {request.region for request in proxy.requests[opened:]} == {REGION}
    assert f"is in {REGION}: BATCHD_S3_REGION should say so" in caplog.text


async def test_bucket_that_the_endpoint_does_not_serve_is_refused(
    s3: SeaweedFS, proxy: S3Proxy
) -> None:
    proxy.refusals.append(no_such_region(REGION))

    with pytest.raises(InvalidSettings, match=f"^BATCHD_S3_REGION: .* is in {REGION}, .*") as line:
        async with open_storage(s3, endpoint=proxy.url):
            pytest.fail("it was opened")

    assert "\n" not in str(line.value)
    assert proxy.url in str(line.value)


async def test_correct_region_is_not_looked_up_again(
    s3: SeaweedFS, proxy: S3Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refusals.append(bucket_in(REGION))

    async with open_storage(s3, endpoint=proxy.url, region=REGION):
        pass

    assert len(proxy.requests) == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def unlisted(proxy: S3Proxy) -> S3Proxy:
    """Return the service as it is for credentials without s3:ListBucket."""
    proxy.refusals.append(no_listing)
    proxy.changes.append(missing_is_forbidden)
    return proxy


@pytest.mark.usefixtures("unlisted")
async def test_without_permission_to_list_a_missing_object_is_missing(
    proxied: Storage, key: str
) -> None:
    assert await proxied.stat(key) is None
    with pytest.raises(ObjectMissing):
        await get(proxied, key)
    with pytest.raises(ObjectMissing):
        await get(proxied, key, offset=3, length=5)


@pytest.mark.usefixtures("unlisted")
async def test_without_permission_to_list_everything_else_works(proxied: Storage, key: str) -> None:
    await proxied.check()
    await put(proxied, key, LINES)
    assert await size_of(proxied, key) == len(LINES)
    assert await get(proxied, key) == LINES
    await proxied.delete([key, f"{key}.never-there"])
    assert await proxied.stat(key) is None


@pytest.mark.usefixtures("unlisted")
async def test_without_permission_to_list_no_list_looks_empty(proxied: Storage, key: str) -> None:
    """Else files would stay for ever that are believed to be deleted."""
    await put(proxied, key, LINES)
    with pytest.raises(StorageRefused):
        await keys_of(proxied, key)


async def test_object_that_may_be_listed_but_not_read_is_not_missing(
    proxied: Storage, proxy: S3Proxy, key: str
) -> None:
    proxy.refusals.append(lambda request: no_access(request) if request.is_of_object else None)

    with pytest.raises(StorageRefused):
        await proxied.stat(key)


async def test_without_any_permission_no_object_is_missing(
    proxied: Storage, unlisted: S3Proxy, key: str
) -> None:
    """Also where missing objects have been told from forbidden ones before."""
    assert await proxied.stat(key) is None
    unlisted.refusals.append(no_access)

    with pytest.raises(StorageRefused):
        await proxied.stat(key)
    with pytest.raises(StorageRefused):
        await get(proxied, key)
    with pytest.raises(StorageRefused):
        await keys_of(proxied, key)
    with pytest.raises(StorageRefused):
        await proxied.check()


async def test_access_probe_that_was_deleted_is_written_again(
    proxied: Storage, unlisted: S3Proxy, key: str
) -> None:
    for _ in range(2):
        await proxied.delete([PROBE_KEY])
        assert await proxied.stat(key) is None
        assert await proxied.stat(key) is None

    assert [request.path for request in unlisted.requests_with("PUT")] == [
        f"/batchd/{PROBE_KEY}"
    ] * 2
