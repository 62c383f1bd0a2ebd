"""The storage port on one bucket of an S3 service."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from batchd.domain.ports import ObjectInfo, ObjectMissing, ObjectWriter, SignedUrl
from batchd.plugins.s3.errors import RangeEmpty, failed_keys, refused, storage_call
from batchd.plugins.s3.multipart import writing
from batchd.plugins.s3.presigning import Presigner, RecentUrls

if TYPE_CHECKING:
    from aiobotocore.response import StreamingBody
    from types_aiobotocore_s3 import S3Client

PIECE_BYTES = 256 * 1024
DELETE_KEYS = 1_000
"""S3 takes no more in one call."""
STAT_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 3.0
"""Somebody waits for these two: they end before the client's own attempts do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Storage:
    client: "S3Client"
    bucket: str
    presigner: Presigner
    recent: RecentUrls = field(default_factory=RecentUrls)

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
                async with asyncio.timeout(STAT_TIMEOUT_S):
                    answer = await self.client.head_object(Bucket=self.bucket, Key=key)
        except ObjectMissing:
            return None
        return ObjectInfo(size=answer["ContentLength"])

    @asynccontextmanager
    async def read(
        self, key: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        body = await self._body(key, offset, length)
        opened = nullcontext() if body is None else body
        async with opened, aclosing(_pieces(body, key)) as pieces:
            yield pieces

    async def _body(self, key: str, offset: int, length: int | None) -> "StreamingBody | None":
        """Begin to get the object; None where the range holds none of its bytes."""
        if length == 0:
            # A range can't say so.
            if await self.stat(key) is None:
                raise ObjectMissing(key)
            return None
        try:
            with storage_call("read", key):
                if offset == 0 and length is None:
                    answer = await self.client.get_object(Bucket=self.bucket, Key=key)
                else:
                    last = "" if length is None else offset + length - 1
                    answer = await self.client.get_object(
                        Bucket=self.bucket, Key=key, Range=f"bytes={offset}-{last}"
                    )
        except RangeEmpty:
            return None
        return answer["Body"]

    def write(self, key: str) -> AbstractAsyncContextManager[ObjectWriter]:
        return writing(self.client, bucket=self.bucket, key=key)

    async def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while some := list(islice(remaining, DELETE_KEYS)):
            with storage_call("delete", some[0]):
                answer = await self.client.delete_objects(
                    Bucket=self.bucket,
                    Delete={"Objects": [{"Key": key} for key in some], "Quiet": True},
                )
            # One call, yet each key can fail for itself.
            failed = [e for e in answer.get("Errors", ()) if e.get("Code") != "NoSuchKey"]
            if failed:
                raise failed_keys("delete", failed)

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
                    await self.client.head_bucket(Bucket=self.bucket)
        except ObjectMissing as missing:
            raise refused(
                "find bucket", self.bucket, code="NoSuchBucket", cause="there is none"
            ) from missing


async def _pieces(body: "StreamingBody | None", key: str) -> AsyncGenerator[bytes, None]:
    while body is not None:
        with storage_call("read", key):
            piece = await body.read(PIECE_BYTES)
        if not piece:
            return
        yield piece
