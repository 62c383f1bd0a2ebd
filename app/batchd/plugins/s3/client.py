"""The session and the client of aiobotocore. `late_client` reads this module in, nobody else."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from batchd.configuration import InvalidSettings
from batchd.plugins.s3.settings import S3Settings

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials
    from types_aiobotocore_s3 import S3Client

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 20.0
ATTEMPTS = 3
CONNECTIONS = 50


class Opened(NamedTuple):
    client: "S3Client"
    credentials: "AioCredentials"


def prepare(settings: S3Settings) -> AbstractAsyncContextManager[Opened]:
    """Return a client to be opened. It has read the descriptions of S3, which takes 0.1 s."""
    session = AioSession()
    if settings.access_key is not None and settings.secret_key is not None:
        session.set_credentials(settings.access_key, settings.secret_key.get_secret_value())
    # The loader remembers them, so that the client finds them at hand.
    loader = session.get_component("data_loader")
    loader.load_data_with_path("endpoints")
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", kind)
    return _open(session, settings)


@asynccontextmanager
async def _open(session: AioSession, settings: S3Settings) -> AsyncIterator[Opened]:
    """Raises InvalidSettings where there are no credentials."""
    credentials = await session.get_credentials()
    if credentials is None:
        raise InvalidSettings(
            "BATCHD_S3_ACCESS_KEY: not set, and there are no AWS credentials either"
        )
    async with session.create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint,
        config=_config(settings),
    ) as client:
        yield Opened(client, credentials)


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
