"""The sample batches, run over HTTP exactly as a customer would."""

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
"""In the sample file, in place of a batch that exists in the account of whoever runs it."""
ENDS = {"completed", "hash_mismatch", "validation_failed", "cancelled"}
POLL_S = 0.05
PATIENCE_S = 120.0
HEAD_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRun:
    batch: str
    answer: dict[str, Any]
    """What get_batch said at the end, the download included."""
    results: list[str]

    @property
    def head(self) -> list[str]:
        return self.results[:HEAD_LINES]


def _read_sample(name: str) -> str:
    path = shipped_folder("examples") / name
    if not path.is_file():
        raise StackFailed(f"The sample file {path} is not there; --no-sample does without it.")
    return path.read_text(encoding="utf-8")


async def run_sample(api_url: str, secret: str) -> SampleRun:
    """Run the sample file. Raises StackFailed.

    Its lines ask for a batch; for the one to ask for, a first batch of one line is run before.
    """
    text = _read_sample(GET_BATCH_SAMPLE)
    async with _customer(api_url, secret) as customer:
        first = await customer.run(text.splitlines()[0] + "\n", "get_batch")
        return await customer.run(text.replace(PLACEHOLDER, first.batch), "get_batch")


async def run_upstream_sample(api_url: str, secret: str) -> SampleRun:
    """Run the file whose lines call the example's upstream. Raises StackFailed."""
    text = _read_sample(UPSTREAM_SAMPLE)
    async with _customer(api_url, secret) as customer:
        return await customer.run(text, UPSTREAM_OPERATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Customer:
    api: aiohttp.ClientSession
    files: aiohttp.ClientSession
    """Without the secret: temporary URLs need no other credential."""

    async def run(self, text: str, operation: str) -> SampleRun:
        data = text.encode()
        upload = await self._call("POST", "/cache")
        async with self.files.put(_exactly(upload["url"]), data=data) as response:
            await _checked(response)
        form = {
            "handler": upload["handler"],
            "operation": operation,
            "hash": hashlib.sha256(data).hexdigest(),
        }
        created = await self._call("POST", "/batches", json=form)
        batch = created["batch"]
        async with asyncio.timeout(PATIENCE_S):
            while (await self._call("GET", f"/batches/{batch}"))["status"] not in ENDS:
                await asyncio.sleep(POLL_S)
        answer = await self._call("GET", f"/batches/{batch}?download=true")
        if answer["status"] != "completed":
            raise StackFailed(f"The sample batch ended otherwise than completed: {answer}")
        async with self.files.get(_exactly(answer["download"]["url"])) as response:
            results = (await _checked(response)).splitlines()
        expected = sum(1 for line in text.splitlines() if line.strip())
        if len(results) != expected:
            raise StackFailed(f"The sample has {expected} lines, its results {len(results)}.")
        return SampleRun(batch=batch, answer=answer, results=results)

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        async with self.api.request(method, path, **arguments) as response:
            answer: dict[str, Any] = json.loads(await _checked(response))
            return answer


@asynccontextmanager
async def _customer(api_url: str, secret: str) -> AsyncIterator[_Customer]:
    try:
        async with (
            aiohttp.ClientSession(api_url, headers={"Authorization": secret}) as api,
            aiohttp.ClientSession() as files,
        ):
            yield _Customer(api=api, files=files)
    except aiohttp.ClientError as error:
        raise StackFailed(f"The sample batch failed: {error}") from error
    except TimeoutError:
        raise StackFailed(f"The sample batch did not end within {PATIENCE_S:g} s.") from None


def _exactly(url: str) -> URL:
    """Keep a signed URL as it was signed."""
    return URL(url, encoded=True)


async def _checked(response: aiohttp.ClientResponse) -> str:
    text = await response.text()
    if response.status >= 400:
        raise StackFailed(
            f"The sample batch failed: {response.method} {response.url.path} was answered "
            f"{response.status}: {text[:1000]}"
        )
    return text
