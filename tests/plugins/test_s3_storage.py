"""What the storage port promises, on two S3 servers: objects written, read, listed, deleted."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from http import HTTPStatus
from io import BytesIO
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import StorageRefused
from batchd.domain.ports import ObjectChanged, ObjectMissing, Storage
from batchd.plugins.s3 import s3_storage
from batchd.plugins.s3.multipart import PART_BYTES, PartsWriter, part_bytes
from batchd.plugins.s3.objects import PIECE_BYTES
from batchd.plugins.s3.storage import S3Storage
from batchd.settings import GIB, MIB
from tests.support.moto_s3 import running_moto
from tests.support.s3_storage import (
    LINES,
    encoded,
    get,
    keys_of,
    put,
    s3_values,
    size_of,
    storage_context,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["SeaweedFS", "moto"])
async def storage(request: pytest.FixtureRequest, s3: SeaweedFS) -> AsyncIterator[Storage]:
    async with AsyncExitStack() as stack:
        values = s3_values(s3)
        if request.param == "moto":
            values = await stack.enter_async_context(running_moto())
        yield await stack.enter_async_context(s3_storage(storage_context(**values)))


@pytest.mark.slow
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
        assert await size_of(storage, key) == size
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


async def test_one_large_write_creates_the_same_object_as_many_small_ones(
    storage: Storage, key: str
) -> None:
    data = b"0123456789abcdef" * (21 * MIB // 16)
    await put(storage, key, data)
    assert await get(storage, key) == data


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1])
async def test_object_of_any_size_is_read_as_written(storage: Storage, key: str, size: int) -> None:
    await put(storage, key, b"x" * size)
    assert await size_of(storage, key) == size
    assert await get(storage, key) == b"x" * size


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 1, PART_BYTES - 1, PART_BYTES], ids="{} before".format)
async def test_large_object_is_appended_inside_the_storage(
    storage: Storage, key: str, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what was written before it is less than S3 takes for a part."""
    large = b"".join(b"%015d\n" % n for n in range(4 * PART_BYTES // 16))
    await put(storage, f"{key}.large", large)
    sent: list[int] = []
    monkeypatch.setattr(PartsWriter, "_send_part", counting(PartsWriter._send_part, sent))
    async with storage.write(key) as writer:
        await writer.write(b"x" * before)
        for _ in range(2):
            assert await writer.append(f"{key}.large", len(large))
            await writer.write(b"between\n")
    assert await get(storage, key) == b"x" * before + 2 * (large + b"between\n")
    assert sum(sent) <= before + 4 * PART_BYTES


async def test_small_object_is_not_appended_inside_the_storage(storage: Storage, key: str) -> None:
    await put(storage, f"{key}.small", b"small")
    async with storage.write(key) as writer:
        assert not await writer.append(f"{key}.small", 5)
        await writer.write(b"written")
    assert await get(storage, key) == b"written"


async def test_missing_object_cannot_be_appended(storage: Storage, key: str) -> None:
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
    assert sum(sizes) > 195 * GIB
    assert max(sizes) <= 55 * MIB
    assert sizes[:5000] == [PART_BYTES] * 5000


@pytest.mark.parametrize("expected", [0, 1, 20 * GIB, 100 * GIB + 1, 1_000 * GIB])
async def test_object_that_is_as_large_as_expected_has_parts_of_one_size(expected: int) -> None:
    sizes = {part_bytes(number, expected_bytes=expected) for number in range(1, 5_001)}
    assert len(sizes) == 1
    assert 5_000 * sizes.pop() >= expected


async def test_object_is_replaced_as_a_whole(storage: Storage, key: str) -> None:
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
        async with asyncio.timeout(None) as read_timeout, storage.write(key) as writer:
            await writer.write(b"x" * PART_BYTES * 3)
            read_timeout.reschedule(0)
            await writer.write(b"x" * PART_BYTES * 9)

    with pytest.raises(TimeoutError):
        await be_cancelled_halfway()
    assert await storage.stat(key) is None
    assert await unfinished_uploads(storage, key) == []


# moto has an internal error where S3 says that there is no such upload.
@pytest.mark.parametrize("storage", ["SeaweedFS"], indirect=True)
async def test_failure_of_a_part_leaves_the_existing_object(storage: Storage, key: str) -> None:
    await put(storage, key, LINES)
    assert isinstance(storage, S3Storage)
    client, bucket = storage.client, storage.bucket

    async def lose_the_parts_halfway() -> None:
        async with storage.write(key) as writer:
            await writer.write(b"x" * PART_BYTES)
            (upload_id,) = await unfinished_uploads(storage, key)
            await client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
            await writer.write(b"x" * PART_BYTES * 4)

    with pytest.raises(StorageRefused) as refused:
        await lose_the_parts_halfway()
    assert refused.value.code == "NoSuchUpload"
    assert await get(storage, key) == LINES


async def unfinished_uploads(storage: Storage, key: str) -> list[str]:
    assert isinstance(storage, S3Storage)
    response = await storage.client.list_multipart_uploads(Bucket=storage.bucket, Prefix=key)
    return [upload["UploadId"] for upload in response.get("Uploads", ())]


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
async def test_empty_object_has_no_content(
    storage: Storage, key: str, offset: int, length: int | None
) -> None:
    await put(storage, key, b"")
    assert await get(storage, key, offset=offset, length=length) == b""


async def test_reading_can_be_abandoned(storage: Storage, key: str) -> None:
    await put(storage, key, b"x" * 3 * MIB)
    for _ in range(60):  # more than there are connections
        async with storage.read(key) as pieces:
            async for _ in pieces:
                break
    assert await size_of(storage, key) == 3 * MIB


@pytest.mark.parametrize(("offset", "length"), [(0, None), (3, 5), (0, 0)])
async def test_object_is_read_only_as_long_as_it_has_the_entity_tag(
    storage: Storage, key: str, offset: int, length: int | None
) -> None:
    await put(storage, key, b"0123456789")
    info = await storage.stat(key)
    assert info is not None
    part = slice(offset, None if length is None else offset + length)
    async with storage.read(key, offset=offset, length=length, etag=info.etag) as pieces:
        assert b"".join([piece async for piece in pieces]) == b"0123456789"[part]

    await put(storage, key, b"9876543210")

    with pytest.raises(ObjectChanged):
        async with storage.read(key, offset=offset, length=length, etag=info.etag):
            pass


@pytest.mark.parametrize(("offset", "length"), [(0, None), (3, 5), (0, 0)])
async def test_missing_object_is_reported(
    storage: Storage, key: str, offset: int, length: int | None
) -> None:
    assert await storage.stat(key) is None
    with pytest.raises(ObjectMissing):
        async with storage.read(key, offset=offset, length=length):
            pytest.fail("it was opened")


@pytest.mark.slow
async def test_many_objects_are_listed_and_deleted(
    storage: Storage, browser: aiohttp.ClientSession, key: str
) -> None:
    expected = [f"{key}/{number:04}" for number in range(1_005)]
    await put(storage, f"{key}-beside", LINES)

    async def upload(name: str) -> None:
        url = await storage.presign_upload(name, validity_s=60)
        async with browser.put(encoded(url), data=LINES) as response:
            assert response.status == HTTPStatus.OK

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
