"""Distinguishes missing from forbidden objects: without s3:ListBucket, both get a 403."""

import logging
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

logger = logging.getLogger(__name__)

PROBE_KEY = "batchd-access-probe"
"""Key of an empty object that exists only to be read."""
_FORBIDDEN = {"AccessDenied", "Forbidden", "403"}
_MISSING = {"NoSuchKey", "NotFound", "404"}


class AccessProbe:
    """Checks, at each refusal, whether objects may be read although the bucket may not be listed.

    Nothing is cached: permissions may be revoked at any time, and an object that exists but can't
    be read must never count as missing.
    """

    def __init__(self, client: "S3Client", *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._reported = False

    async def reads_without_listing(self) -> bool:
        """Return True if 403 for an object means that it is missing. Raises botocore's errors."""
        try:
            await self._client.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if not is_forbidden(error):
                raise
        else:
            return False
        may_read = await self._reads() or (await self._writes() and await self._reads())
        if may_read and not self._reported:
            self._reported = True
            logger.info(
                "storage: the credentials may not list the whole bucket; object %s distinguishes "
                "missing objects from forbidden ones",
                PROBE_KEY,
            )
        return may_read

    async def _reads(self) -> bool:
        try:
            response = await self._client.get_object(Bucket=self._bucket, Key=PROBE_KEY)
        except ClientError as error:
            if is_forbidden(error) or error.response["Error"]["Code"] in _MISSING:
                return False
            raise
        response["Body"].close()
        return True

    async def _writes(self) -> bool:
        try:
            await self._client.put_object(Bucket=self._bucket, Key=PROBE_KEY, Body=b"")
        except ClientError as error:
            if is_forbidden(error):
                return False
            raise
        return True


def is_forbidden(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in _FORBIDDEN
