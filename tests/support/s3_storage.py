"""The S3 storage as a test opens it, and what it does with objects all the time."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from yarl import URL

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.ports import SignedUrl, Storage, StorageContext
from batchd.plugins.s3 import s3_storage
from batchd.plugins.s3.settings import S3Settings

LINES = b'{"id": "a"}\n{"id": "b"}\n'


def storage_context(**values: str) -> StorageContext:
    """Return what the storage gets for these settings, named without BATCHD_S3_."""
    settings = {"bucket": "batchd", **values}
    environment = {S3Settings.variable(name): value for name, value in settings.items()}
    return StorageContext(environment=environment)


def s3_variables(s3: SeaweedFS, **changes: str) -> Mapping[str, str]:
    """Return the variables with which batchd uses the server."""
    values = {
        "endpoint": s3.endpoint,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
        "bucket": s3.bucket,
        **changes,
    }
    return storage_context(**values).environment


def open_storage(s3: SeaweedFS, **changes: str) -> AbstractAsyncContextManager[Storage]:
    return s3_storage(StorageContext(environment=s3_variables(s3, **changes)))


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
