"""The S3 storage on the real server, and what callers do with its URLs over plain HTTP."""

import asyncio
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ports import ObjectInfo, ObjectMissing, SignedUrl, Storage
from batchd.plugins.s3_storage import s3_storage
from batchd.plugins.s3_storage.multipart import (
    PART_BYTES,
    PartsWriter,
    part_bytes,
)
from batchd.plugins.s3_storage.storage import PIECE_BYTES, S3Storage
from batchd.settings import GIB, MIB, BadSettings, Settings, read_settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINES = b'{"id": "a"}\n{"id": "b"}\n'


def settings_for(**values: object) -> Settings:
    fields = {"database_url": "postgresql://unused", "s3_bucket": "batchd"}
    return read_settings(**{**fields, **values})


def open_storage(s3: SeaweedFS, **values: object) -> AbstractAsyncContextManager[Storage]:
    given = {
        "s3_endpoint": s3.endpoint,
        "s3_access_key": s3.access_key,
        "s3_secret_key": s3.secret_key,
        "s3_bucket": s3.bucket,
    }
    return s3_storage(settings_for(**{**given, **values}))


# One client for all: to make one takes longer than most of the tests.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def storage(s3: SeaweedFS) -> AsyncIterator[Storage]:
    async with open_storage(s3) as storage:
        yield storage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """Whoever holds a URL, and nothing else."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def key() -> str:
    return f"tests/{uuid4()}"


@pytest.fixture
def dead_endpoint() -> str:
    """Where nobody listens."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def put(storage: Storage, key: str, data: bytes) -> None:
    async with storage.write(key) as writer:
        await writer.write(data)


async def get(storage: Storage, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
    async with storage.read(key, offset=offset, length=length) as pieces:
        return b"".join([piece async for piece in pieces])


async def keys_of(storage: Storage, prefix: str) -> list[str]:
    return [key async for key in storage.list_keys(prefix)]


def encoded(url: SignedUrl) -> URL:
    """Return the URL as it is: the client must not encode it a second time."""
    return URL(url.url, encoded=True)


# URLs


async def test_file_goes_up_and_down_through_urls(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    upload = await storage.presign_upload(key, validity_s=60)
    async with browser.put(encoded(upload), data=LINES) as answer:
        assert answer.status == HTTPStatus.OK
    download = await storage.presign_download(key, validity_s=60, filename="b7.jsonl")
    async with browser.get(encoded(download)) as answer:
        assert answer.status == HTTPStatus.OK
        assert await answer.read() == LINES
        assert answer.headers["Content-Disposition"] == 'attachment; filename="b7.jsonl"'
        assert answer.headers["Content-Type"] == "application/x-ndjson"


@pytest.mark.parametrize("name", ["a b+c&d=e?f#g%20h", "ü/日本/~-._", "'quoted' (1)!*"])
async def test_url_of_a_key_with_special_characters_works(
    storage: Storage, browser: aiohttp.ClientSession, key: str, name: str
) -> None:
    upload = await storage.presign_upload(f"{key}/{name}", validity_s=60)
    async with browser.put(encoded(upload), data=LINES) as answer:
        assert answer.status == HTTPStatus.OK
    assert await get(storage, f"{key}/{name}") == LINES
    assert await keys_of(storage, key) == [f"{key}/{name}"]


async def test_url_tells_the_moment_that_the_storage_enforces(storage: Storage, key: str) -> None:
    url = await storage.presign_download(key, validity_s=900, filename="b.jsonl")
    query = URL(url.url).query
    signed_at = datetime.strptime(query["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    assert url.validity_ts == signed_at + timedelta(seconds=int(query["X-Amz-Expires"]))
    assert query["X-Amz-Expires"] == "900"
    assert url.validity_ts.tzinfo is UTC
    assert abs(signed_at - datetime.now(UTC)) < timedelta(seconds=5)


async def test_no_url_promises_more_than_the_seven_days_of_s3(storage: Storage, key: str) -> None:
    url = await storage.presign_upload(key, validity_s=30 * 24 * 3600)
    assert url.validity_ts <= datetime.now(UTC) + timedelta(days=7)
    assert URL(url.url).query["X-Amz-Expires"] == "604800"


async def test_url_stops_working_when_it_says(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    await put(storage, key, LINES)
    url = await storage.presign_download(key, validity_s=2, filename="b.jsonl")
    status, refused_at, worked = HTTPStatus.OK, datetime.now(UTC), 0
    async with asyncio.timeout(8):
        while status == HTTPStatus.OK:
            async with browser.get(encoded(url)) as answer:
                status, refused_at = HTTPStatus(answer.status), datetime.now(UTC)
            worked += status == HTTPStatus.OK
            await asyncio.sleep(0.05)
    assert status == HTTPStatus.FORBIDDEN
    assert worked > 0
    assert refused_at >= url.validity_ts - timedelta(seconds=1)
    assert refused_at <= url.validity_ts + timedelta(seconds=2)


async def test_url_opens_no_other_key_and_no_other_method(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    await put(storage, key, LINES)
    await put(storage, f"{key}-other", LINES)
    url = await storage.presign_download(key, validity_s=60, filename="b.jsonl")
    other_key = url.url.replace(key, f"{key}-other")
    async with browser.get(URL(other_key, encoded=True)) as answer:
        assert answer.status == HTTPStatus.FORBIDDEN
    longer = url.url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")
    async with browser.get(URL(longer, encoded=True)) as answer:
        assert answer.status == HTTPStatus.FORBIDDEN
    async with browser.put(encoded(url), data=b"forged") as answer:
        assert answer.status == HTTPStatus.FORBIDDEN
    assert await get(storage, key) == LINES


async def test_urls_name_the_public_endpoint(s3: SeaweedFS) -> None:
    async with open_storage(s3, s3_public_endpoint="https://files.example.com/") as storage:
        url = await storage.presign_upload("uploads/1", validity_s=60)
        assert url.url.startswith("https://files.example.com/batchd/uploads/1?X-Amz-Algorithm=")
        # The service itself is still reached at its own endpoint.
        await storage.check()


async def test_urls_name_the_bucket_in_the_host_where_asked_to() -> None:
    settings = settings_for(
        s3_endpoint="http://127.0.0.1:8333",
        s3_public_endpoint="https://files.example.com:8443",
        s3_addressing="virtual",
        s3_access_key="access",
        s3_secret_key="secret",
    )
    async with s3_storage(settings) as storage:
        url = await storage.presign_upload("uploads/1", validity_s=60)
    assert url.url.startswith("https://batchd.files.example.com:8443/uploads/1?")


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
    settings = settings_for(s3_region="eu-central-1", s3_addressing=addressing)
    async with s3_storage(settings) as storage:
        url = await storage.presign_upload("uploads/1", validity_s=60)
    assert url.url.startswith(start)
    assert URL(url.url).query["X-Amz-Credential"].startswith("ambient/")
    assert URL(url.url).query["X-Amz-Security-Token"] == "of a role"


async def test_upload_that_breaks_off_leaves_nothing(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"x" * PART_BYTES
        raise ConnectionAbortedError

    url = await storage.presign_upload(key, validity_s=60)
    with pytest.raises(aiohttp.ClientError):
        await browser.put(
            encoded(url), data=half(), headers={"Content-Length": str(2 * PART_BYTES)}
        )
    # The server reads on until it sees the end of the connection: ask it for something else after.
    await put(storage, f"{key}-after", LINES)
    assert await storage.stat(key) is None


# Reading and writing


async def test_large_file_is_written_and_read_with_little_memory(
    storage: Storage, key: str
) -> None:
    size = 72 * MIB + 5
    block = bytes(range(256)) * (MIB // 256)
    written, read, longest = sha256(), sha256(), 0
    tracemalloc.start()
    try:
        async with storage.write(key) as writer:
            for start in range(0, size, MIB):
                piece = block[: size - start]
                written.update(piece)
                await writer.write(piece)
        assert await storage.stat(key) == ObjectInfo(size=size)
        async with storage.read(key) as pieces:
            async for piece in pieces:
                read.update(piece)
                longest = max(longest, len(piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read.digest() == written.digest()
    assert longest <= PIECE_BYTES
    assert peak < 5 * PART_BYTES


async def test_one_large_write_makes_the_same_object_as_many_small_ones(
    storage: Storage, key: str
) -> None:
    data = b"0123456789abcdef" * (21 * MIB // 16)
    await put(storage, key, data)
    assert await get(storage, key) == data


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1])
async def test_any_size_makes_a_round_trip(storage: Storage, key: str, size: int) -> None:
    await put(storage, key, b"x" * size)
    assert await storage.stat(key) == ObjectInfo(size=size)
    assert await get(storage, key) == b"x" * size


@pytest.mark.parametrize("before", [0, 1, PART_BYTES - 1, PART_BYTES], ids="{} before".format)
async def test_large_object_is_appended_inside_the_storage(
    storage: Storage, key: str, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what was written before it is less than S3 takes for a part."""
    large = b"".join(b"%015d\n" % n for n in range(3 * PART_BYTES // 16))
    await put(storage, f"{key}.large", large)
    sent: list[int] = []
    monkeypatch.setattr(PartsWriter, "_send_part", counting(PartsWriter._send_part, sent))
    async with storage.write(key) as writer:
        await writer.write(b"x" * before)
        for _ in range(2):
            assert await writer.append(f"{key}.large", len(large))
            await writer.write(b"between\n")
    assert await get(storage, key) == b"x" * before + 2 * (large + b"between\n")
    assert sum(sent) <= before + 3 * PART_BYTES


async def test_small_object_is_not_appended_inside_the_storage(storage: Storage, key: str) -> None:
    await put(storage, f"{key}.small", b"small")
    async with storage.write(key) as writer:
        assert not await writer.append(f"{key}.small", 5)
        await writer.write(b"written")
    assert await get(storage, key) == b"written"


async def test_object_that_is_gone_cannot_be_appended(storage: Storage, key: str) -> None:
    with pytest.raises(ObjectMissing):
        async with storage.write(key) as writer:
            assert await writer.append(f"{key}.gone", 2 * PART_BYTES)
    assert await storage.stat(key) is None


def counting(send_part: Any, sent: list[int]) -> Any:
    """Return the method that also notes how many bytes go over the network."""

    async def send(self: PartsWriter, upload_id: str, number: int, part: BytesIO) -> Any:
        sent.append(len(part.getbuffer()))
        return await send_part(self, upload_id, number, part)

    return send


async def test_parts_of_a_very_large_file_stay_within_the_limits_of_s3() -> None:
    sizes = [part_bytes(number) for number in range(1, 10_001)]
    assert sum(sizes) > 400 * GIB
    assert max(sizes) <= 95 * MIB
    assert sizes[:1000] == [PART_BYTES] * 1000


async def test_object_is_replaced_whole(storage: Storage, key: str) -> None:
    await put(storage, key, b"first, and longer")
    await put(storage, key, b"second")
    assert await get(storage, key) == b"second"


@pytest.mark.parametrize("size", [10, 3 * PART_BYTES])
async def test_failure_while_writing_leaves_nothing(storage: Storage, key: str, size: int) -> None:
    async def fail_halfway() -> None:
        async with storage.write(key) as writer:
            await writer.write(b"x" * size)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_halfway()
    assert await storage.stat(key) is None
    assert await unfinished_uploads(storage, key) == []


async def test_cancellation_while_writing_leaves_nothing(storage: Storage, key: str) -> None:
    async def be_cancelled_halfway() -> None:
        async with asyncio.timeout(None) as patience, storage.write(key) as writer:
            await writer.write(b"x" * PART_BYTES * 3)
            patience.reschedule(0)
            await writer.write(b"x" * PART_BYTES * 9)

    with pytest.raises(TimeoutError):
        await be_cancelled_halfway()
    assert await storage.stat(key) is None
    assert await unfinished_uploads(storage, key) == []


async def test_failure_of_a_part_leaves_the_object_that_was_there(
    storage: Storage, key: str
) -> None:
    await put(storage, key, LINES)
    assert isinstance(storage, S3Storage)
    client, bucket = storage.client, storage.bucket

    async def lose_the_parts_halfway() -> None:
        async with storage.write(key) as writer:
            await writer.write(b"x" * PART_BYTES)
            (upload_id,) = await unfinished_uploads(storage, key)
            await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
            await writer.write(b"x" * PART_BYTES * 4)

    with pytest.raises(ProcessingTimeout):
        await lose_the_parts_halfway()
    assert await get(storage, key) == LINES


async def unfinished_uploads(storage: Storage, key: str) -> list[str]:
    assert isinstance(storage, S3Storage)
    answer = await storage.client.list_multipart_uploads(Bucket=storage.bucket, Prefix=key)
    return [upload["UploadId"] for upload in answer.get("Uploads", ())]


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (7, None, b"789"),
        (8, 100, b"89"),
        (9, 1, b"9"),
        (0, 0, b""),
        (5, 0, b""),
        (10, None, b""),
        (10, 5, b""),
        (99, 5, b""),
    ],
)
async def test_part_of_an_object_is_read(
    storage: Storage, key: str, offset: int, length: int | None, expected: bytes
) -> None:
    await put(storage, key, b"0123456789")
    assert await get(storage, key, offset=offset, length=length) == expected


@pytest.mark.parametrize(("offset", "length"), [(0, None), (0, 10), (5, 10), (0, 0)])
async def test_empty_object_is_read_as_nothing(
    storage: Storage, key: str, offset: int, length: int | None
) -> None:
    await put(storage, key, b"")
    assert await get(storage, key, offset=offset, length=length) == b""


async def test_reading_can_be_given_up_halfway(storage: Storage, key: str) -> None:
    await put(storage, key, b"x" * 3 * MIB)
    for _ in range(60):  # more than there are connections
        async with storage.read(key) as pieces:
            async for _ in pieces:
                break
    assert await storage.stat(key) == ObjectInfo(size=3 * MIB)


@pytest.mark.parametrize(("offset", "length"), [(0, None), (3, 5), (0, 0)])
async def test_missing_object_is_told(
    storage: Storage, key: str, offset: int, length: int | None
) -> None:
    assert await storage.stat(key) is None
    with pytest.raises(ObjectMissing):
        async with storage.read(key, offset=offset, length=length):
            pytest.fail("it was opened")


async def test_many_objects_are_listed_and_deleted(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    expected = [f"{key}/{number:04}" for number in range(1_005)]
    await put(storage, f"{key}-beside", LINES)

    async def upload(name: str) -> None:
        url = await storage.presign_upload(name, validity_s=60)
        async with browser.put(encoded(url), data=LINES) as answer:
            assert answer.status == HTTPStatus.OK

    await asyncio.gather(*map(upload, expected))
    assert await keys_of(storage, f"{key}/") == expected
    await storage.delete([*expected, f"{key}/never-there"])
    assert await keys_of(storage, key) == [f"{key}-beside"]


async def test_deleting_nothing_and_deleting_twice_are_no_errors(
    storage: Storage, key: str
) -> None:
    await put(storage, key, LINES)
    await storage.delete([])
    await storage.delete([key])
    await storage.delete([key])
    assert await storage.stat(key) is None


# When the storage does not answer


async def test_dead_storage_is_told_quickly_and_nothing_else_is(
    s3: SeaweedFS, dead_endpoint: str, key: str
) -> None:
    async with open_storage(s3, s3_endpoint=dead_endpoint) as storage:
        started = time.monotonic()
        failures = await asyncio.gather(
            failure_of(storage.stat(key)),
            failure_of(storage.check()),
            failure_of(storage.delete([key])),
            failure_of(keys_of(storage, key)),
            failure_of(get(storage, key)),
            failure_of(put(storage, key, LINES)),
        )
        assert time.monotonic() - started < 5
    for failure in failures:
        assert failure.description == "The storage does not answer. Try again in a few seconds."


async def failure_of(call: Awaitable[object]) -> ProcessingTimeout:
    with pytest.raises(ProcessingTimeout) as caught:
        await call
    return caught.value


async def test_storage_that_takes_connections_and_is_silent_is_not_waited_for(
    s3: SeaweedFS,
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with open_storage(s3, s3_endpoint=endpoint) as storage:
            started = time.monotonic()
            with pytest.raises(ProcessingTimeout):
                await storage.check()
            assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"s3_bucket": "no-such-bucket"},
        {"s3_secret_key": "wrong"},
        {"s3_access_key": "unknown"},
    ],
)
async def test_check_fails_on_a_wrong_setting(
    s3: SeaweedFS, key: str, wrong: dict[str, str]
) -> None:
    async with open_storage(s3, **wrong) as storage:
        with pytest.raises(ProcessingTimeout):
            await storage.check()
        with pytest.raises(ProcessingTimeout):
            await put(storage, key, LINES)


async def test_check_passes_on_a_good_storage(storage: Storage) -> None:
    await storage.check()


async def test_storage_without_credentials_does_not_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(BadSettings, match="BATCHD_S3_ACCESS_KEY"):
        async with s3_storage(settings_for()):
            pytest.fail("it was opened")


async def test_storage_with_half_a_credential_does_not_open() -> None:
    with pytest.raises(BadSettings, match="BATCHD_S3_SECRET_KEY"):
        async with s3_storage(settings_for(s3_access_key="access")):
            pytest.fail("it was opened")
