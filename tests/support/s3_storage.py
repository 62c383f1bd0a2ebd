"""The S3 storage as tests open it, and common operations on objects."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from yarl import URL

from batchd.configuration import read_settings
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.ports import SignedUrl, Storage, StorageContext
from batchd.plugins.s3 import s3_storage
from batchd.plugins.s3.client import open_clients
from batchd.plugins.s3.credentials import open_session
from batchd.plugins.s3.presigning import Presigner
from batchd.plugins.s3.settings import S3Settings
from batchd.plugins.s3.storage import S3Storage

LINES = b'{"id": "a"}\n{"id": "b"}\n'


def storage_context(**values: str) -> StorageContext:
    """Return the storage's context for these settings, named without BATCHD_S3_."""
    settings = {"bucket": "batchd", **values}
    environment = {S3Settings.variable(name): value for name, value in settings.items()}
    return StorageContext(environment=environment)


def s3_values(s3: SeaweedFS) -> dict[str, str]:
    """Return the settings with which batchd uses the server, named without BATCHD_S3_."""
    return {
        "endpoint": s3.endpoint,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
        "bucket": s3.bucket,
    }


def s3_variables(s3: SeaweedFS, **changes: str) -> Mapping[str, str]:
    """Return the variables with which batchd uses the server."""
    return storage_context(**s3_values(s3) | changes).environment


def open_storage(s3: SeaweedFS, **changes: str) -> AbstractAsyncContextManager[Storage]:
    return s3_storage(StorageContext(environment=s3_variables(s3, **changes)))


@asynccontextmanager
async def open_presigner(**values: str) -> AsyncIterator[Presigner]:
    """Sign URLs for these settings, without any connection to the storage."""
    settings = read_settings(S3Settings, storage_context(**values).environment)
    async with (
        open_session(settings) as (session, credentials),
        open_clients(session, settings, region=settings.region) as clients,
    ):
        yield Presigner(clients.public, credentials, bucket=settings.bucket)


async def put(storage: Storage, key: str, data: bytes) -> None:
    async with storage.write(key) as writer:
        await writer.write(data)


async def get(storage: Storage, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
    async with storage.read(key, offset=offset, length=length) as pieces:
        return b"".join([piece async for piece in pieces])


async def size_of(storage: Storage, key: str) -> int | None:
    info = await storage.stat(key)
    return None if info is None else info.size


async def keys_of(storage: Storage, prefix: str) -> list[str]:
    return [key async for key in storage.list_keys(prefix)]


def encoded(url: SignedUrl) -> URL:
    """Return the URL as it is: the client must not encode it a second time."""
    return URL(url.url, encoded=True)


def fail_to_read(patch: pytest.MonkeyPatch, infix: str, error: Exception) -> None:
    """Let every read of an object fail that has this in its key, but no other one."""
    read = S3Storage.read

    def fail(storage: S3Storage, key: str, **options: Any) -> Any:
        if infix in key:
            raise error
        return read(storage, key, **options)

    patch.setattr(S3Storage, "read", fail)
