"""A storage whose reads block until the test unblocks them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from batchd.plugins.s3.storage import S3Storage


class SlowStorage:
    """Patches the reads of the real storage."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read_requested = asyncio.Event()
        self.unblocked = asyncio.Event()
        self.read_resumed = asyncio.Event()
        read = S3Storage.read

        @asynccontextmanager
        async def blocking_read(
            storage: S3Storage, key: str, **options: Any
        ) -> AsyncIterator[AsyncIterator[bytes]]:
            self.read_requested.set()
            await self.unblocked.wait()
            self.read_resumed.set()
            async with read(storage, key, **options) as pieces:
                yield pieces

        monkeypatch.setattr(S3Storage, "read", blocking_read)
