"""A caller of the API, as a customer's program would be one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import aiohttp

from batchd.services.users import NewSecret
from tests.support.polling import TIMEOUT_S, eventually

END = {"completed", "cancelled", "validation_failed", "hash_mismatch"}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """Calls with one user's secret."""

    session: aiohttp.ClientSession
    url: str
    user: NewSecret

    async def call(self, method: str, path: str, **options: Any) -> Reply:
        headers = {"Authorization": self.user.secret, **options.pop("headers", {})}
        async with self.session.request(
            method, f"{self.url}{path}", headers=headers, **options
        ) as response:
            text = await response.text()
            return Reply(response.status, json.loads(text) if text else None, response.headers)

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def upload(self, data: bytes) -> str:
        """Upload a file as the contract says, and return its handler."""
        reply = await self.call("POST", "/cache")
        assert reply.status == 201, reply
        async with self.session.put(reply.body["url"], data=BytesIO(data)) as response:
            assert response.status == 200, await response.text()
        handler: str = reply.body["handler"]
        return handler

    async def create(self, lines: bytes, operation: str = "get_batch", **more: object) -> str:
        """Upload lines, create a batch from them, and return its id."""
        body = {"handler": await self.upload(lines), "operation": operation, **more}
        reply = await self.call("POST", "/batches", json=body)
        assert reply.status == 201, reply
        batch: str = reply.body["batch"]
        return batch

    async def status(self, batch: str) -> str:
        reply = await self.get(f"/batches/{batch}")
        assert reply.status == 200, reply
        status: str = reply.body["status"]
        return status

    async def end(self, batch: str, *, within_s: float = TIMEOUT_S) -> str:
        """Wait for the batch's end status."""
        return await eventually(lambda: self.status(batch), END.__contains__, within_s=within_s)

    async def download(self, batch: str) -> list[Any]:
        """Return the lines of the results or the report."""
        return [json.loads(line) for line in (await self.download_bytes(batch)).splitlines()]

    async def download_bytes(self, batch: str) -> bytes:
        """Return the file of the results or the report."""
        reply = await self.get(f"/batches/{batch}?download=true")
        async with self.session.get(reply.body["download"]["url"]) as response:
            data = await response.read()
            assert response.status == 200, data
            return data


def lines_of(*calls: Mapping[str, object]) -> bytes:
    """Return a batch file."""
    return b"".join(json.dumps(call).encode() + b"\n" for call in calls)
