"""The clients of aiobotocore: one for the storage, one for the URLs that callers get."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError

from batchd.configuration import InvalidSettings
from batchd.plugins.s3.settings import S3Settings

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials
    from types_aiobotocore_s3 import S3Client

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 20.0
ATTEMPTS = 3
CONNECTIONS = 50


class Clients(NamedTuple):
    storage: "S3Client"
    public: "S3Client"
    """Signs for the endpoint by which callers reach the storage; it never connects."""
    credentials: "AioCredentials"


@asynccontextmanager
async def open_clients(settings: S3Settings) -> AsyncIterator[Clients]:
    """Open them. Raises InvalidSettings where there are no credentials, or no such endpoint."""
    session = AioSession()
    if settings.access_key is not None and settings.secret_key is not None:
        session.set_credentials(settings.access_key, settings.secret_key.get_secret_value())
    try:
        credentials = await session.get_credentials()
    except BotoCoreError as error:
        raise InvalidSettings(
            f"BATCHD_S3_ACCESS_KEY: not set, and the AWS credentials can't be used: {error}"
        ) from error
    if credentials is None:
        raise InvalidSettings(
            "BATCHD_S3_ACCESS_KEY: not set, and there are no AWS credentials either"
        )
    public_endpoint = settings.public_endpoint or settings.endpoint
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(_client(session, settings, settings.endpoint))
        public = storage
        if public_endpoint != settings.endpoint:
            public = await stack.enter_async_context(_client(session, settings, public_endpoint))
        yield Clients(storage, public, credentials)


@asynccontextmanager
async def _client(
    session: AioSession, settings: S3Settings, endpoint: str | None
) -> AsyncIterator["S3Client"]:
    try:
        creation = session.create_client(
            "s3",
            region_name=settings.region,
            endpoint_url=None if endpoint is None else endpoint.rstrip("/"),
            config=_config(settings),
        )
    except (BotoCoreError, ValueError) as error:
        raise InvalidSettings(f"BATCHD_S3_ENDPOINT: {error}") from error
    async with creation as client:
        yield client


def _config(settings: S3Settings) -> AioConfig:
    return AioConfig(
        s3={"addressing_style": settings.addressing},
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        # Checksum trailers are AWS's own; other S3 services refuse or ignore them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
