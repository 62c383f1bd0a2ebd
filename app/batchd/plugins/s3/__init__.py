"""The storage plugin `s3`: any S3 service, by aiobotocore."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from batchd.configuration import read_settings
from batchd.domain.ports import Storage, StorageContext
from batchd.plugins.s3.late_client import opening
from batchd.plugins.s3.presigning import UrlSigner, bucket_url
from batchd.plugins.s3.settings import S3Settings
from batchd.plugins.s3.storage import S3Storage

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


@asynccontextmanager
async def s3_storage(context: StorageContext) -> AsyncIterator[Storage]:
    """Open the bucket that the settings name. Raises InvalidSettings, also without any credentials."""
    settings = read_settings(S3Settings, context.environment)
    async with opening(settings) as late:
        if settings.access_key is None:
            # Only the client finds out whether this machine has any; no start without.
            await late.opened()
        signer = UrlSigner(
            credentials=late.credentials,
            region=settings.region,
            bucket_url=bucket_url(
                settings.public_endpoint or settings.endpoint,
                bucket=settings.bucket,
                region=settings.region,
                addressing=settings.addressing,
            ),
        )
        yield S3Storage(client=cast("S3Client", late), bucket=settings.bucket, signer=signer)
