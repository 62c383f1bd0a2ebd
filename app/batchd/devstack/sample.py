"""The sample batches, run over HTTP as a customer would run them."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from batchd.devstack.errors import StackFailed
from batchd.shipped import shipped_folder

GET_BATCH_SAMPLE = "get_batch_sample.jsonl"
UPSTREAM_SAMPLE = "upstream_sample.jsonl"
UPSTREAM_OPERATION = "create_invoice"
PLACEHOLDER = "00000000-0000-0000-0000-000000000000"
"""In the sample file, replaced by the id of a batch that exists."""
END_STATUSES = {"completed", "hash_mismatch", "validation_failed", "cancelled"}
POLL_INTERVAL_S = 0.05
TIMEOUT_S = 120.0
PREVIEW_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRun:
    batch: str
    response: dict[str, Any]
    """The final response of get_batch, with the download URL."""
    results: list[str]

    @property
    def preview(self) -> list[str]:
        return self.results[:PREVIEW_LINES]


def _read_sample(name: str) -> str:
    path = shipped_folder("examples") / name
    if not path.is_file():
        raise StackFailed(
            f"The sample file {path} is missing; use --no-sample to start without it."
        )
    return path.read_text(encoding="utf-8")


async def run_sample(api_url: str, secret: str) -> SampleRun:
    """Run the sample file. Raises StackFailed.

    Its lines refer to an existing batch, which is created first, from a single line.
    """
    text = _read_sample(GET_BATCH_SAMPLE)
    async with _connect(api_url, secret) as client:
        first = await client.run(text.splitlines()[0] + "\n", "get_batch")
        return await client.run(text.replace(PLACEHOLDER, first.batch), "get_batch")


async def run_upstream_sample(api_url: str, secret: str) -> SampleRun:
    """Run the sample file that calls the example's upstream. Raises StackFailed."""
    text = _read_sample(UPSTREAM_SAMPLE)
    async with _connect(api_url, secret) as client:
        return await client.run(text, UPSTREAM_OPERATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    api: aiohttp.ClientSession
    files: aiohttp.ClientSession
    """Sends no secret: temporary URLs require no other credential."""

    async def run(self, text: str, operation: str) -> SampleRun:
        data = text.encode()
        upload = await self._call("POST", "/cache")
        async with self.files.put(_signed_url(upload["url"]), data=data) as response:
            await _read_text(response)
        body = {
            "handler": upload["handler"],
            "operation": operation,
            "hash": hashlib.sha256(data).hexdigest(),
        }
        batch = (await self._call("POST", "/batches", json=body))["batch"]
        async with asyncio.timeout(TIMEOUT_S):
            while (await self._call("GET", f"/batches/{batch}"))["status"] not in END_STATUSES:
                await asyncio.sleep(POLL_INTERVAL_S)
        final = await self._call("GET", f"/batches/{batch}?download=true")
        if final["status"] != "completed":
            raise StackFailed(f"The sample batch was not completed: {final}")
        async with self.files.get(_signed_url(final["download"]["url"])) as response:
            results = (await _read_text(response)).splitlines()
        expected = sum(1 for line in text.splitlines() if line.strip())
        if len(results) != expected:
            raise StackFailed(
                f"The sample has {expected} lines, but its results have {len(results)}."
            )
        return SampleRun(batch=batch, response=final, results=results)

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        async with self.api.request(method, path, **arguments) as response:
            body: dict[str, Any] = json.loads(await _read_text(response))
            return body


@asynccontextmanager
async def _connect(api_url: str, secret: str) -> AsyncIterator[_Client]:
    try:
        async with (
            aiohttp.ClientSession(api_url, headers={"Authorization": secret}) as api,
            aiohttp.ClientSession() as files,
        ):
            yield _Client(api=api, files=files)
    except aiohttp.ClientError as error:
        raise StackFailed(f"The sample batch failed: {error}") from error
    except TimeoutError:
        raise StackFailed(f"The sample batch did not finish within {TIMEOUT_S:g} s.") from None


def _signed_url(url: str) -> URL:
    """Return the URL as it was signed, without normalization."""
    return URL(url, encoded=True)


async def _read_text(response: aiohttp.ClientResponse) -> str:
    text = await response.text()
    if response.status >= 400:
        raise StackFailed(
            f"The sample batch failed: {response.method} {response.url.path} returned "
            f"{response.status}: {text[:1000]}"
        )
    return text
