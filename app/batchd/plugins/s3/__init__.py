"""The storage plugin `s3`: any S3 service, by aiobotocore."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batchd.configuration import read_settings
from batchd.domain.ports import Storage, StorageContext
from batchd.plugins.s3.client import open_clients
from batchd.plugins.s3.presigning import Presigner
from batchd.plugins.s3.settings import S3Settings
from batchd.plugins.s3.storage import S3Storage


@asynccontextmanager
async def s3_storage(context: StorageContext) -> AsyncIterator[Storage]:
    """Open the bucket that the settings name. Raises InvalidSettings, also without credentials."""
    settings = read_settings(S3Settings, context.environment)
    async with open_clients(settings) as clients:
        yield S3Storage(
            client=clients.storage,
            bucket=settings.bucket,
            presigner=Presigner(clients.public, clients.credentials, bucket=settings.bucket),
        )
