"""An S3 storage that does not respond, refuses calls, or can't be opened."""

import asyncio
import socket
import time
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path

import pytest

from batchd.configuration import InvalidSettings
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.ports import Storage
from batchd.plugins.s3 import s3_storage
from batchd.plugins.s3.client import READ_TIMEOUT_S
from tests.support.s3_storage import LINES, get, keys_of, open_storage, put, storage_context

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def dead_endpoint() -> str:
    """Where nobody listens."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def test_stopped_storage_is_reported_quickly_without_details(
    s3: SeaweedFS, dead_endpoint: str, key: str
) -> None:
    async with open_storage(s3, endpoint=dead_endpoint) as storage:
        started = time.monotonic()
        failures = await asyncio.gather(
            failure_of(storage.stat(key)),
            failure_of(storage.check()),
            failure_of(storage.delete([key])),
            failure_of(keys_of(storage, key)),
            failure_of(get(storage, key)),
            failure_of(put(storage, key, LINES)),
        )
        assert time.monotonic() - started < READ_TIMEOUT_S
    for failure in failures:
        assert failure.description == "The storage is not responding. Try again in a few seconds."


async def failure_of(call: Awaitable[object]) -> ProcessingTimeout:
    with pytest.raises(ProcessingTimeout) as caught:
        await call
    return caught.value


async def test_silent_storage_times_out(
    s3: SeaweedFS,
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with open_storage(s3, endpoint=endpoint) as storage:
            started = time.monotonic()
            with pytest.raises(ProcessingTimeout):
                await storage.check()
            assert time.monotonic() - started < READ_TIMEOUT_S


@pytest.mark.parametrize(
    "invalid",
    [
        {"bucket": "no-such-bucket"},
        {"secret_key": "wrong"},
        {"access_key": "unknown"},
    ],
)
async def test_check_fails_with_an_invalid_setting(
    s3: SeaweedFS, key: str, invalid: dict[str, str]
) -> None:
    async with open_storage(s3, **invalid) as storage:
        with pytest.raises(StorageRefused):
            await storage.check()
        with pytest.raises(StorageRefused):
            await put(storage, key, LINES)


async def test_check_passes_with_a_working_storage(storage: Storage) -> None:
    await storage.check()


async def test_storage_without_credentials_does_not_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(InvalidSettings, match="BATCHD_S3_ACCESS_KEY"):
        async with s3_storage(storage_context()):
            pytest.fail("it was opened")


async def test_storage_with_half_a_credential_does_not_open() -> None:
    with pytest.raises(InvalidSettings, match="BATCHD_S3_SECRET_KEY"):
        async with s3_storage(storage_context(access_key="access")):
            pytest.fail("it was opened")
