"""How the S3 storage opens: at once, with its client behind it, unless the settings are wrong."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest

from batchd.configuration import InvalidSettings
from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import ProcessingTimeout
from batchd.plugins.s3 import late_client, s3_storage
from batchd.plugins.s3.settings import S3Settings
from tests.support.s3_storage import open_storage, storage_context

if TYPE_CHECKING:
    from batchd.plugins.s3.client import Opened

prepared = late_client.prepared


@contextmanager
def held_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Make no client before the event is set; at the end it is."""
    let = threading.Event()

    def wait(settings: S3Settings) -> "AbstractAsyncContextManager[Opened]":
        let.wait()
        return prepared(settings)

    monkeypatch.setattr(late_client, "prepared", wait)
    try:
        yield let
    finally:
        let.set()


async def test_calls_wait_for_the_client(s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
    with held_client(monkeypatch) as let:
        async with open_storage(s3) as storage:
            calls = asyncio.gather(
                storage.check(),
                storage.stat("never/there"),
                storage.presign_upload("uploads/1", validity_s=60),
            )
            _, waiting = await asyncio.wait([calls], timeout=0)
            assert waiting
            let.set()
            none, missing, url = await calls
    assert (none, missing) == (None, None)
    assert url.url.startswith(f"{s3.endpoint}/batchd/uploads/1?")


async def test_whoever_gives_up_waiting_spoils_it_for_nobody(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_client(monkeypatch) as let:
        async with open_storage(s3) as storage:
            patient = asyncio.create_task(storage.check())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await storage.presign_upload("uploads/1", validity_s=60)
            let.set()
            await patient


async def test_storage_that_is_silent_while_it_opens_is_not_waited_for(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchd.plugins.s3.storage.CHECK_TIMEOUT_S", 0.01)
    with held_client(monkeypatch):
        async with open_storage(s3) as storage:
            with pytest.raises(ProcessingTimeout):
                await storage.check()


async def test_storage_can_be_left_before_its_client_is_there(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_client(monkeypatch):
        async with open_storage(s3):
            pass


async def test_client_that_does_not_open_is_opened_anew_for_the_next_call(
    s3: SeaweedFS, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[S3Settings] = []

    def fail_once(settings: S3Settings) -> "AbstractAsyncContextManager[Opened]":
        tries.append(settings)
        if len(tries) == 1:
            raise ValueError("the description of S3 is damaged")
        return prepared(settings)

    monkeypatch.setattr(late_client, "prepared", fail_once)
    async with open_storage(s3) as storage:
        with pytest.raises(ProcessingTimeout) as caught:
            await storage.check()
        assert "damaged" not in caught.value.description
        assert "the description of S3 is damaged" in caplog.text
        await storage.check()
        await storage.check()
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint", "127.0.0.1:9000"),
        ("endpoint", "ftp://127.0.0.1"),
        ("endpoint", "http://"),
        ("endpoint", "http://my_host:9000"),
        ("endpoint", "http://host:port"),
        ("endpoint", "http://[::1"),
        ("public_endpoint", "files.example.com"),
        ("region", "eu central 1"),
        ("region", "-eu"),
        ("region", "1"),
    ],
)
async def test_what_the_client_would_not_take_is_refused_at_once(name: str, value: str) -> None:
    context = storage_context(access_key="access", secret_key="secret", **{name: value})
    with pytest.raises(InvalidSettings, match=f"BATCHD_S3_{name.upper()}: "):
        async with s3_storage(context):
            pytest.fail("it was opened")


@pytest.mark.parametrize(
    "endpoint", ["http://localhost:9000", "https://s3.example.com./", "http://[::1]:9000/s3"]
)
async def test_client_takes_what_was_not_refused(endpoint: str) -> None:
    context = storage_context(access_key="a", secret_key="s", endpoint=endpoint)
    async with s3_storage(context) as storage:
        await storage.presign_upload("uploads/1", validity_s=60)


async def test_plugin_is_read_in_without_the_client() -> None:
    """Or a start would wait for it again."""
    program = "import batchd.plugins.s3, sys; print('aiobotocore' in sys.modules)"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", program), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().strip() == "False"
