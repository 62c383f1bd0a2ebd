"""A client of the API: uploads files, creates batches, and reads their state and results."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
from yarl import URL

END_STATUSES = {"completed", "cancelled", "validation_failed", "hash_mismatch"}
_TIMEOUT = aiohttp.ClientTimeout(total=600)


class CallRefused(RuntimeError):
    """The API answered with an error other than 503."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Customer:
    api: aiohttp.ClientSession
    files: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Call until the API responds: it may restart meanwhile, and the calls are idempotent.

        Raises CallRefused.
        """
        while True:
            try:
                async with self.api.request(method, path, **options) as response:
                    result: dict[str, Any] = msgspec.json.decode(await response.read())
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
                continue
            if response.status < 400:
                return result
            if response.status != 503:
                message = f"{method} {path}: {response.status} {result}"
                raise CallRefused(message, status=response.status)
            await asyncio.sleep(0.2)

    async def create(self, data: bytes, operation: str, **more: object) -> str:
        upload = await self.call("POST", "/cache")
        async with self.files.put(URL(upload["url"], encoded=True), data=data) as response:
            response.raise_for_status()
        body = {"handler": upload["handler"], "operation": operation, **more}
        batch: str = (await self.call("POST", "/batches", json=body))["batch"]
        return batch

    async def end(self, batch: str, *, poll_s: float = 0.05) -> tuple[str, Mapping[str, float]]:
        """Return the end status, and the monotonic time at which each status was first observed."""
        observed: dict[str, float] = {}
        while True:
            status = (await self.call("GET", f"/batches/{batch}"))["status"]
            observed.setdefault(status, time.monotonic())
            if status in END_STATUSES:
                return status, observed
            await asyncio.sleep(poll_s)

    async def download(self, batch: str) -> bytes:
        state = await self.call("GET", f"/batches/{batch}?download=true")
        url = URL(state["download"]["url"], encoded=True)
        async with self.files.get(url, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            return await response.read()


@asynccontextmanager
async def customer(api_url: str, secret: str) -> AsyncIterator[Customer]:
    headers = {"Authorization": secret}
    async with (
        aiohttp.ClientSession(api_url, headers=headers, timeout=_TIMEOUT) as api,
        aiohttp.ClientSession(timeout=_TIMEOUT) as files,
    ):
        yield Customer(api, files)
