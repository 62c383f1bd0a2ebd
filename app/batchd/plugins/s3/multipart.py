"""Writing an object piece by piece: in one put if it is small, in parts if it is not."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from batchd.plugins.s3.capabilities import Capabilities, is_not_implemented
from batchd.plugins.s3.errors import storage_call
from batchd.plugins.s3.objects import ObjectClient

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

logger = logging.getLogger(__name__)

MIB = 1024**2
PART_BYTES = 5 * MIB
"""S3 refuses smaller parts, but for the last one."""
EQUAL_PARTS = 5_000
"""Of the 10,000 that S3 accepts. Some services, such as Cloudflare R2, require equal parts."""
PARTS_OF_A_SIZE = 1_000
ABORT_TIMEOUT_S = 10.0


def part_bytes(number: int, *, expected_bytes: int = 0) -> int:
    """Return how large part `number`, counted from 1, is.

    All parts of an object that is no larger than expected have one size. After 5,000 parts they
    grow with each thousand, so that even an unexpected 195 GiB fit, with 55 MiB in memory.
    """
    smallest = max(PART_BYTES, -(-expected_bytes // (EQUAL_PARTS * MIB)) * MIB)
    return smallest * (1 + 2 * max(0, -(-(number - EQUAL_PARTS) // PARTS_OF_A_SIZE)))


@asynccontextmanager
async def writing(
    client: "S3Client",
    objects: ObjectClient,
    *,
    bucket: str,
    key: str,
    expected_bytes: int,
    capabilities: Capabilities,
) -> AsyncIterator["PartsWriter"]:
    """Make the object appear as a whole on exit, or not at all on an error or a cancellation."""
    writer = PartsWriter(
        client,
        objects,
        bucket=bucket,
        key=key,
        expected_bytes=expected_bytes,
        capabilities=capabilities,
    )
    try:
        yield writer
        await writer.finish()
    except BaseException:
        await writer.discard()
        raise


class PartsWriter:
    def __init__(
        self,
        client: "S3Client",
        objects: ObjectClient,
        *,
        bucket: str,
        key: str,
        expected_bytes: int,
        capabilities: Capabilities,
    ) -> None:
        self._client = client
        self._objects = objects
        self._bucket = bucket
        self._key = key
        self._expected_bytes = expected_bytes
        self._capabilities = capabilities
        self._filling = BytesIO()
        self._upload_id: str | None = None
        self._completed_parts: list[CompletedPartTypeDef] = []

    @property
    def _number(self) -> int:
        """The number of the part being filled."""
        return len(self._completed_parts) + 1

    @property
    def _part_bytes(self) -> int:
        """The size of the part being filled."""
        return part_bytes(self._number, expected_bytes=self._expected_bytes)

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            room = self._part_bytes - self._filling.tell()
            rest = rest[self._filling.write(rest[:room]) :]
            if self._filling.tell() == self._part_bytes:
                await self._send()

    async def append(self, key: str, size: int) -> bool:
        """Copy the ranges that fill parts inside the storage; read those before and after."""
        filled = self._filling.tell()
        head = self._part_bytes - filled if filled else 0
        next_part = part_bytes(self._number + bool(filled), expected_bytes=self._expected_bytes)
        if not self._capabilities.copies_parts or size - head < next_part:
            return False
        await self._write_range(key, 0, head)
        offset = head
        while size - offset >= self._part_bytes:
            if not await self._copy_part(key, offset, self._part_bytes):
                self._capabilities.lose_part_copies()
                break
            offset += part_bytes(self._number - 1, expected_bytes=self._expected_bytes)
        await self._write_range(key, offset, size)
        return True

    async def finish(self) -> None:
        if self._upload_id is None:
            with storage_call("write", self._key):
                await self._objects.put(self._key, self._filling.getvalue())
            return
        if self._filling.tell():
            await self._send()
        with storage_call("complete", self._key):
            await self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._completed_parts},
            )

    async def discard(self) -> None:
        """Delete the parts sent so far, if the storage permits."""
        if self._upload_id is None:
            return
        try:
            async with asyncio.timeout(ABORT_TIMEOUT_S):
                await self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
                )
        except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
            # The error that led here matters more; parts are not visible as an object.
            logger.warning("storage: parts of %s are left behind: %s", self._key, error)

    async def _write_range(self, key: str, start: int, end: int) -> None:
        """Read a range of another object, and write it."""
        if start == end:
            return
        with storage_call("read", key):
            body = await self._objects.get(key, offset=start, length=end - start)
        while True:
            with storage_call("read", key):
                piece = await body.read()
            if not piece:
                return
            await self.write(piece)

    async def _send(self) -> None:
        """Send the part that is filled, and wait: the next one would need as much memory."""
        upload_id = await self._start_upload()
        self._filling.seek(0)
        self._completed_parts.append(await self._send_part(upload_id, self._number, self._filling))
        self._filling = BytesIO()

    async def _start_upload(self) -> str:
        if self._upload_id is None:
            with storage_call("write", self._key):
                upload = await self._client.create_multipart_upload(
                    Bucket=self._bucket, Key=self._key
                )
            self._upload_id = upload["UploadId"]
        return self._upload_id

    async def _send_part(
        self, upload_id: str, number: int, part: BytesIO
    ) -> "CompletedPartTypeDef":
        with storage_call("write", self._key):
            response = await self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                PartNumber=number,
                Body=part,
            )
        return {"ETag": response["ETag"], "PartNumber": number}

    async def _copy_part(self, key: str, offset: int, size: int) -> bool:
        """Copy a range of another object as the next part; False if the service can't."""
        upload_id = await self._start_upload()
        with storage_call("copy", key):
            try:
                response = await self._client.upload_part_copy(
                    Bucket=self._bucket,
                    Key=self._key,
                    UploadId=upload_id,
                    PartNumber=self._number,
                    CopySource={"Bucket": self._bucket, "Key": key},
                    CopySourceRange=f"bytes={offset}-{offset + size - 1}",
                )
            except ClientError as error:
                if is_not_implemented(error):
                    return False
                raise
        # A service that does not know the header for the source has stored an empty part, and
        # reports no copy. The next part replaces it: it has the same number.
        etag = response.get("CopyPartResult", {}).get("ETag")
        if etag is None:
            return False
        self._completed_parts.append({"ETag": etag, "PartNumber": self._number})
        return True
