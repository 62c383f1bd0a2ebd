"""A storage that holds up whoever reads, until the test lets it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from batchd.plugins.s3.storage import S3Storage


class SlowStorage:
    """Stands in front of the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = asyncio.Event()
        self.let = asyncio.Event()
        self.went_on = asyncio.Event()
        read = S3Storage.read

        @asynccontextmanager
        async def held_read(
            storage: S3Storage, key: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[AsyncIterator[bytes]]:
            self.asked.set()
            await self.let.wait()
            self.went_on.set()
            async with read(storage, key, offset=offset, length=length) as pieces:
                yield pieces

        monkeypatch.setattr(S3Storage, "read", held_read)
