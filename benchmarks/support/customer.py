"""A customer of the API: uploads files, makes batches, and reads what becomes of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
from yarl import URL

ENDS = {"completed", "cancelled", "validation_failed", "hash_mismatch"}
_PATIENT = aiohttp.ClientTimeout(total=600)


@dataclass(frozen=True, slots=True)
class Customer:
    api: aiohttp.ClientSession
    files: aiohttp.ClientSession

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Call until the API answers: it may be restarted meanwhile, and the calls repeat well."""
        while True:
            try:
                async with self.api.request(method, path, **options) as response:
                    answer: dict[str, Any] = msgspec.json.decode(await response.read())
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
                continue
            if response.status < 400:
                return answer
            if response.status != 503:
                raise RuntimeError(f"{method} {path}: {response.status} {answer}")
            await asyncio.sleep(0.2)

    async def create(self, data: bytes, operation: str, **more: object) -> str:
        upload = await self.call("POST", "/cache")
        async with self.files.put(URL(upload["url"], encoded=True), data=data) as response:
            response.raise_for_status()
        body = {"handler": upload["handler"], "operation": operation, **more}
        batch: str = (await self.call("POST", "/batches", json=body))["batch"]
        return batch

    async def end(self, batch: str, *, poll_s: float = 0.05) -> tuple[str, Mapping[str, float]]:
        """Return the end status, and when (monotonic) each status was first seen."""
        seen: dict[str, float] = {}
        while True:
            status = (await self.call("GET", f"/batches/{batch}"))["status"]
            seen.setdefault(status, time.monotonic())
            if status in ENDS:
                return status, seen
            await asyncio.sleep(poll_s)

    async def download(self, batch: str) -> bytes:
        answer = await self.call("GET", f"/batches/{batch}?download=true")
        url = URL(answer["download"]["url"], encoded=True)
        async with self.files.get(url, timeout=_PATIENT) as response:
            response.raise_for_status()
            return await response.read()


@asynccontextmanager
async def customer(api_url: str, secret: str) -> AsyncIterator[Customer]:
    headers = {"Authorization": secret}
    async with (
        aiohttp.ClientSession(api_url, headers=headers, timeout=_PATIENT) as api,
        aiohttp.ClientSession(timeout=_PATIENT) as files,
    ):
        yield Customer(api, files)
