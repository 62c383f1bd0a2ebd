"""Writing an object piece by piece: in one put if it is small, in parts if it is not."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from batchd.plugins.s3.errors import storage_call

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

logger = logging.getLogger(__name__)

PART_BYTES = 5 * 1024**2
"""S3 refuses smaller parts, but for the last one."""
PARTS_OF_A_SIZE = 1_000
ABORT_TIMEOUT_S = 10.0


def part_bytes(number: int) -> int:
    """Return how large part `number`, counted from 1, is: S3 takes 10,000 parts and no more.

    5 MiB for the first thousand parts, then 10 MiB more for each thousand: 488 GiB fit, and the one
    part that is in memory stays below 100 MiB even there.
    """
    return PART_BYTES * (1 + 2 * ((number - 1) // PARTS_OF_A_SIZE))


@asynccontextmanager
async def writing(client: "S3Client", *, bucket: str, key: str) -> AsyncIterator["PartsWriter"]:
    """Make the object appear whole on leaving, or not at all on an error or a cancellation."""
    writer = PartsWriter(client, bucket=bucket, key=key)
    try:
        yield writer
        await writer.finish()
    except BaseException:
        await writer.discard()
        raise


class PartsWriter:
    def __init__(self, client: "S3Client", *, bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._filling = BytesIO()
        self._upload_id: str | None = None
        self._number = 1
        """Of the part being filled."""
        self._done: list[CompletedPartTypeDef] = []

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            room = part_bytes(self._number) - self._filling.tell()
            rest = rest[self._filling.write(rest[:room]) :]
            if self._filling.tell() == part_bytes(self._number):
                await self._send()

    async def append(self, key: str, size: int) -> bool:
        """Copy the object as a part of its own; the part before it is filled up from its head."""
        filled = self._filling.tell()
        head = max(0, PART_BYTES - filled) if filled else 0
        # Grows like the parts that are written: 10,000 must be enough.
        if size - head < part_bytes(self._number):
            return False
        if head:
            with storage_call("read", key):
                answer = await self._client.get_object(
                    Bucket=self._bucket, Key=key, Range=f"bytes=0-{head - 1}"
                )
                self._filling.write(await answer["Body"].read())
        if self._filling.tell():
            await self._send()
        upload_id = await self._begun()
        part = f"bytes={head}-{size - 1}"
        self._add(await self._copy_part(upload_id, self._number, key, part))
        return True

    async def finish(self) -> None:
        if self._upload_id is None:
            with storage_call("write", self._key):
                self._filling.seek(0)
                await self._client.put_object(
                    Bucket=self._bucket, Key=self._key, Body=self._filling
                )
            return
        if self._filling.tell():
            await self._send()
        with storage_call("complete", self._key):
            await self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._done},
            )

    async def discard(self) -> None:
        """Leave nothing behind, as far as the storage lets us."""
        if self._upload_id is None:
            return
        try:
            async with asyncio.timeout(ABORT_TIMEOUT_S):
                await self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
                )
        except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
            # The error that brought us here matters more; parts are no object anybody sees.
            logger.warning("storage: parts of %s are left behind: %s", self._key, error)

    async def _send(self) -> None:
        """Send the part that is filled, and wait: the next one would need as much memory."""
        upload_id = await self._begun()
        self._filling.seek(0)
        self._add(await self._send_part(upload_id, self._number, self._filling))
        self._filling = BytesIO()

    async def _begun(self) -> str:
        if self._upload_id is None:
            with storage_call("write", self._key):
                upload = await self._client.create_multipart_upload(
                    Bucket=self._bucket, Key=self._key
                )
            self._upload_id = upload["UploadId"]
        return self._upload_id

    def _add(self, part: "CompletedPartTypeDef") -> None:
        self._done.append(part)
        self._number += 1

    async def _send_part(
        self, upload_id: str, number: int, part: BytesIO
    ) -> "CompletedPartTypeDef":
        with storage_call("write", self._key):
            answer = await self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                PartNumber=number,
                Body=part,
            )
        return {"ETag": answer["ETag"], "PartNumber": number}

    async def _copy_part(
        self, upload_id: str, number: int, key: str, part: str
    ) -> "CompletedPartTypeDef":
        with storage_call("copy", key):
            answer = await self._client.upload_part_copy(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": key},
                CopySourceRange=part,
            )
        return {"ETag": answer["CopyPartResult"]["ETag"], "PartNumber": number}
