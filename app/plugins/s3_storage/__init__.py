"""The storage plugin `s3`: any S3 service, by aiobotocore."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from batchd.domain.ports import Storage
from batchd.plugins.s3_storage.signing import UrlSigner, bucket_url
from batchd.plugins.s3_storage.storage import S3Storage
from batchd.settings import BadSettings, Settings

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 20.0
ATTEMPTS = 3
CONNECTIONS = 50


@asynccontextmanager
async def s3_storage(settings: Settings) -> AsyncIterator[Storage]:
    """Open the bucket that the settings name. Raises BadSettings where there are no credentials."""
    session = AioSession()
    if settings.s3_access_key is not None and settings.s3_secret_key is not None:
        session.set_credentials(settings.s3_access_key, settings.s3_secret_key.get_secret_value())
    elif settings.s3_access_key is not None or settings.s3_secret_key is not None:
        raise BadSettings("BATCHD_S3_ACCESS_KEY and BATCHD_S3_SECRET_KEY go together")
    credentials = await session.get_credentials()
    if credentials is None:
        raise BadSettings("BATCHD_S3_ACCESS_KEY: not set, and there are no AWS credentials either")
    signer = UrlSigner(
        credentials=credentials,
        region=settings.s3_region,
        bucket_url=bucket_url(
            settings.s3_public_endpoint or settings.s3_endpoint,
            bucket=settings.s3_bucket,
            region=settings.s3_region,
            addressing=settings.s3_addressing,
        ),
    )
    async with session.create_client(
        "s3",
        region_name=settings.s3_region,
        endpoint_url=settings.s3_endpoint,
        config=_config(settings),
    ) as client:
        yield S3Storage(client=client, bucket=settings.s3_bucket, signer=signer)


def _config(settings: Settings) -> AioConfig:
    return AioConfig(
        s3={"addressing_style": settings.s3_addressing},
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        # Checksum trailers are AWS's own; other S3 services refuse or ignore them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
