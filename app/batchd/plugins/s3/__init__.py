"""The storage plugin `s3`: any S3 service, by aiobotocore."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from batchd.domain.ports import Storage
from batchd.plugins.s3.late_client import opening
from batchd.plugins.s3.presigning import UrlSigner, bucket_url
from batchd.plugins.s3.storage import S3Storage
from batchd.settings import InvalidSettings, Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_REGION = re.compile(_LABEL)
_HOST = re.compile(rf"({_LABEL}\.)*{_LABEL}\.?")


@asynccontextmanager
async def s3_storage(settings: Settings) -> AsyncIterator[Storage]:
    """Open the bucket that the settings name. Raises InvalidSettings, also without any credentials."""
    _check(settings)
    async with opening(settings) as late:
        if settings.s3_access_key is None:
            # Only the client finds out whether this machine has any; no start without.
            await late.opened()
        signer = UrlSigner(
            credentials=late.credentials,
            region=settings.s3_region,
            bucket_url=bucket_url(
                settings.s3_public_endpoint or settings.s3_endpoint,
                bucket=settings.s3_bucket,
                region=settings.s3_region,
                addressing=settings.s3_addressing,
            ),
        )
        yield S3Storage(client=cast("S3Client", late), bucket=settings.s3_bucket, signer=signer)


def _check(settings: Settings) -> None:
    """Raise InvalidSettings for what the client, which is opened later, would not take."""
    if (settings.s3_access_key is None) != (settings.s3_secret_key is None):
        raise InvalidSettings("BATCHD_S3_ACCESS_KEY and BATCHD_S3_SECRET_KEY go together")
    if not _REGION.fullmatch(settings.s3_region) or settings.s3_region.isdigit():
        raise InvalidSettings(
            f"BATCHD_S3_REGION: '{settings.s3_region}' can't be the name of a region"
        )
    for name in ("s3_endpoint", "s3_public_endpoint"):
        endpoint = getattr(settings, name)
        if endpoint is not None and not _is_endpoint(endpoint):
            raise InvalidSettings(
                f"BATCHD_{name.upper()}: '{endpoint}' is not a URL like https://s3.example.com:9000"
            )


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        known = IPv6Address(host) if ":" in host else _HOST.fullmatch(host)
    except ValueError:  # of the address or the port
        return False
    return parts.scheme in {"http", "https"} and known is not None
