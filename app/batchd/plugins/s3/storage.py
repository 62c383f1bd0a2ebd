"""The storage port on one bucket of an S3 service."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from batchd.domain.ports import ObjectChanged, ObjectInfo, ObjectMissing, ObjectWriter, SignedUrl
from batchd.plugins.s3.access import AccessProbe, is_forbidden
from batchd.plugins.s3.capabilities import Capabilities, is_not_implemented
from batchd.plugins.s3.errors import RangeEmpty, failed_keys, refused, storage_call
from batchd.plugins.s3.multipart import writing
from batchd.plugins.s3.objects import ObjectBody, ObjectClient
from batchd.plugins.s3.presigning import Presigner, RecentUrls

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

DELETE_KEYS = 1_000
"""S3 accepts no more in one call."""
CONCURRENT_DELETIONS = 10
_NO_BULK_DELETION = {"MissingContentMD5", "InvalidRequest", "InvalidArgument", "MalformedXML"}
"""Error codes of services without DeleteObjects, besides those for not implemented."""
STAT_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 3.0
"""Callers wait for these two: they end before the client's own attempts do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Storage:
    client: "S3Client"
    objects: ObjectClient
    bucket: str
    presigner: Presigner
    access: AccessProbe
    recent: RecentUrls = field(default_factory=RecentUrls)
    capabilities: Capabilities = field(default_factory=Capabilities)

    async def presign_upload(self, key: str, *, validity_s: int) -> SignedUrl:
        with storage_call("sign", key):
            return await self.presigner.sign("put_object", key, validity_s=validity_s)

    async def presign_download(self, key: str, *, validity_s: int, filename: str) -> SignedUrl:
        parameters = {
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
            "ResponseContentType": "application/x-ndjson; charset=utf-8",
        }
        signed = self.recent.find(key, filename, validity_s=validity_s)
        if signed is None:
            with storage_call("sign", key):
                signed = await self.presigner.sign(
                    "get_object", key, validity_s=validity_s, parameters=parameters
                )
            self.recent.keep(key, filename, signed)
        return signed

    async def stat(self, key: str) -> ObjectInfo | None:
        try:
            with storage_call("look at", key):
                async with asyncio.timeout(STAT_TIMEOUT_S), self._missing_if_unlisted(key):
                    meta = await self.objects.head(key)
        except ObjectMissing:
            return None
        return ObjectInfo(size=meta["size"], etag=meta["e_tag"])

    @asynccontextmanager
    async def read(
        self, key: str, *, offset: int = 0, length: int | None = None, etag: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        body = await self._body(key, offset, length, etag)
        async with aclosing(_pieces(body, key)) as pieces:
            yield pieces

    async def _body(
        self, key: str, offset: int, length: int | None, etag: str | None
    ) -> ObjectBody | None:
        """Start to read the object; None if the range contains none of its bytes."""
        if length == 0:
            # A range can't say so.
            info = await self.stat(key)
            if info is None:
                raise ObjectMissing(key)
            if etag is not None and info.etag != etag:
                raise ObjectChanged(key)
            return None
        try:
            with storage_call("read", key):
                async with self._missing_if_unlisted(key):
                    return await self.objects.get(key, offset=offset, length=length, etag=etag)
        except RangeEmpty:
            return None

    @asynccontextmanager
    async def _missing_if_unlisted(self, key: str) -> AsyncIterator[None]:
        """Raise ObjectMissing for a refusal that means a missing object: see AccessProbe."""
        try:
            yield
        except ClientError as error:
            if is_forbidden(error) and await self.access.reads_without_listing():
                raise ObjectMissing(key) from None
            raise

    def write(
        self, key: str, *, expected_bytes: int = 0
    ) -> AbstractAsyncContextManager[ObjectWriter]:
        return writing(
            self.client,
            self.objects,
            bucket=self.bucket,
            key=key,
            expected_bytes=expected_bytes,
            capabilities=self.capabilities,
        )

    async def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while slice_keys := list(islice(remaining, DELETE_KEYS)):
            if self.capabilities.deletes_many and await self._delete_together(slice_keys):
                continue
            for start in range(0, len(slice_keys), CONCURRENT_DELETIONS):
                group = slice_keys[start : start + CONCURRENT_DELETIONS]
                await asyncio.gather(*map(self._delete_one, group))

    async def _delete_together(self, keys: list[str]) -> bool:
        """Delete the objects in one call; False if the service has no such call."""
        with storage_call("delete", keys[0]):
            try:
                response = await self.client.delete_objects(
                    Bucket=self.bucket,
                    Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
                )
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if is_not_implemented(error) or code in _NO_BULK_DELETION:
                    self.capabilities.lose_bulk_deletion()
                    return False
                raise
        # One call, but each key can fail on its own.
        failed = [e for e in response.get("Errors", ()) if e.get("Code") != "NoSuchKey"]
        if failed:
            raise failed_keys("delete", failed)
        return True

    async def _delete_one(self, key: str) -> None:
        with suppress(ObjectMissing), storage_call("delete", key):
            await self.client.delete_object(Bucket=self.bucket, Key=key)

    async def list_keys(self, prefix: str) -> AsyncIterator[str]:
        token = ""
        while True:
            with storage_call("list", prefix):
                if token:
                    page = await self.client.list_objects_v2(
                        Bucket=self.bucket, Prefix=prefix, ContinuationToken=token
                    )
                else:
                    page = await self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
            for item in page.get("Contents", ()):
                yield item["Key"]
            token = page.get("NextContinuationToken", "")
            if not page["IsTruncated"]:
                return

    async def check(self) -> None:
        try:
            with storage_call("find bucket", self.bucket):
                async with asyncio.timeout(CHECK_TIMEOUT_S):
                    try:
                        await self.client.head_bucket(Bucket=self.bucket)
                    except ClientError as error:
                        if not is_forbidden(error) or not await self.access.reads_without_listing():
                            raise
        except ObjectMissing as missing:
            raise refused(
                "find bucket", self.bucket, code="NoSuchBucket", cause="it does not exist"
            ) from missing


async def _pieces(body: ObjectBody | None, key: str) -> AsyncGenerator[bytes, None]:
    while body is not None:
        with storage_call("read", key):
            piece = await body.read()
        if not piece:
            return
        yield piece
