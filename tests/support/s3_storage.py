"""The S3 storage as a test opens it, and what it does with objects all the time."""

from contextlib import AbstractAsyncContextManager

from yarl import URL

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.ports import SignedUrl, Storage
from batchd.plugins.s3 import s3_storage
from batchd.settings import Settings, read_settings

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
