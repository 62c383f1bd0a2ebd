"""The clients of aiobotocore: one for the storage, one for presigned URLs."""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from batchd.configuration import InvalidSettings
from batchd.plugins.s3.settings import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 20.0
ATTEMPTS = 3
CONNECTIONS = 50


class Clients(NamedTuple):
    storage: "S3Client"
    public: "S3Client"
    """Signs for the endpoint by which callers reach the storage; it never connects."""


@asynccontextmanager
async def open_clients(
    session: AioSession, settings: S3Settings, *, region: str
) -> AsyncIterator[Clients]:
    """Open the clients. Raises InvalidSettings for an invalid endpoint."""
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(
            _client(session, settings, region, name="endpoint", endpoint=settings.endpoint)
        )
        storage.meta.events.register("before-sign.s3.DeleteObjects", _add_content_md5)
        public = storage
        if settings.public_endpoint not in {None, settings.endpoint}:
            public = await stack.enter_async_context(
                _client(
                    session,
                    settings,
                    region,
                    name="public_endpoint",
                    endpoint=settings.public_endpoint,
                )
            )
        yield Clients(storage, public)


@asynccontextmanager
async def _client(
    session: AioSession, settings: S3Settings, region: str, *, name: str, endpoint: str | None
) -> AsyncIterator["S3Client"]:
    try:
        creation = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=None if endpoint is None else endpoint.rstrip("/"),
            config=_config(settings),
        )
    except (BotoCoreError, ValueError) as error:
        raise _invalid_endpoint(name, error) from error
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(creation)
        except (BotoCoreError, ValueError) as error:
            raise _invalid_endpoint(name, error) from error
        yield client


def _invalid_endpoint(name: str, error: Exception) -> InvalidSettings:
    return InvalidSettings(f"{S3Settings.variable(name)}: {error}")


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


def _add_content_md5(request: AWSRequest, **_: object) -> None:
    """Add the checksum that S3 used to require for DeleteObjects, and many services still do."""
    # bytes for this operation, whatever the stubs say.
    body: Any = request.body
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()
