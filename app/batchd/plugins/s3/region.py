"""The region of the bucket, which may differ from the setting."""

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from batchd.configuration import InvalidSettings
from batchd.plugins.s3.settings import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

logger = logging.getLogger(__name__)

TIMEOUT_S = 3.0
_SCOPE = re.compile(r"Credential=[^/]+/[0-9]{8}/([^/]+)/")
_REDIRECTED = {"301", "307", "400", "PermanentRedirect", "TemporaryRedirect"}


async def find_region(client: "S3Client", settings: S3Settings) -> str:
    """Return the region that requests have to be signed for. Raises InvalidSettings.

    The client finds the region by itself, but a URL that a caller gets must be right at once. If
    the storage does not respond, the setting stands.
    """
    region = settings.region

    def record_region(request: Any, **_: object) -> None:
        nonlocal region
        header = request.headers["Authorization"]
        scope = _SCOPE.search(header.decode() if isinstance(header, bytes) else header)
        region = scope[1] if scope else region

    client.meta.events.register("before-send.s3.HeadBucket", record_region)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await client.head_bucket(Bucket=settings.bucket)
    except ClientError as error:
        region = _region_of_refusal(error, settings)
    except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        logger.warning(
            "storage: the region of bucket %s is not known yet: %s",
            settings.bucket,
            str(error) or "no response in time",
        )
        return settings.region
    finally:
        client.meta.events.unregister("before-send.s3.HeadBucket", record_region)
    if region != settings.region:
        logger.warning(
            "storage: bucket %s is in %s: BATCHD_S3_REGION should say so", settings.bucket, region
        )
    return region


def _region_of_refusal(error: ClientError, settings: S3Settings) -> str:
    """Return the region that a refusal names. Its other meanings show at the first use."""
    headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
    region: str | None = headers.get("x-amz-bucket-region")
    if error.response["Error"]["Code"] in _REDIRECTED and region not in {None, settings.region}:
        endpoint = settings.endpoint or "AWS"
        raise InvalidSettings(
            f"BATCHD_S3_REGION: bucket '{settings.bucket}' is in {region}, which {endpoint} does "
            f"not serve: set BATCHD_S3_REGION={region}, and BATCHD_S3_ENDPOINT to that region's"
        )
    if settings.endpoint is None and region is not None:
        return region  # it may not be listed, yet AWS names it
    return settings.region
