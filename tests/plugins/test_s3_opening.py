"""Opening the S3 storage, and the settings that it refuses."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiobotocore.session import AioSession
from pydantic import SecretStr

from batchd.configuration import InvalidSettings
from batchd.plugins.s3 import s3_storage
from batchd.plugins.s3.client import open_clients
from batchd.plugins.s3.credentials import open_session
from batchd.plugins.s3.presigning import Presigner
from batchd.plugins.s3.settings import S3Settings
from tests.support.s3_storage import open_presigner, storage_context


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
async def test_invalid_setting_is_refused(name: str, value: str) -> None:
    context = storage_context(access_key="access", secret_key="secret", **{name: value})
    with pytest.raises(InvalidSettings, match=f"BATCHD_S3_{name.upper()}: "):
        async with s3_storage(context):
            pytest.fail("it was opened")


@pytest.mark.parametrize(
    "endpoint", ["http://localhost:9000", "https://s3.example.com./", "http://[::1]:9000/s3"]
)
async def test_valid_endpoint_opens(endpoint: str) -> None:
    async with open_presigner(access_key="a", secret_key="s", endpoint=endpoint) as presigner:
        url = await presigner.sign("put_object", "uploads/1", validity_s=60)
    assert url.url.startswith(endpoint.rstrip("/"))


@pytest.mark.parametrize("name", ["endpoint", "public_endpoint"])
async def test_endpoint_that_only_the_client_refuses_is_named(name: str) -> None:
    valid = S3Settings(bucket="batchd")
    settings = valid.model_copy(update={name: "http://under_score.example.com"})
    with pytest.raises(InvalidSettings, match=f"^BATCHD_S3_{name.upper()}: "):
        async with open_clients(AioSession(), settings, region="us-east-1"):
            pytest.fail("it was opened")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "http://[::1]:9000"])
@pytest.mark.parametrize("name", ["endpoint", "public_endpoint"])
async def test_virtual_addressing_of_an_ip_address_is_refused(name: str, endpoint: str) -> None:
    context = storage_context(
        access_key="a", secret_key="s", addressing="virtual", **{name: endpoint}
    )
    with pytest.raises(InvalidSettings, match="BATCHD_S3_ADDRESSING: an IP address"):
        async with s3_storage(context):
            pytest.fail("it was opened")


async def test_incomplete_ambient_credentials_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ambient")
    with pytest.raises(InvalidSettings, match=r"BATCHD_S3_ACCESS_KEY: .*AWS credentials"):
        async with s3_storage(storage_context()):
            pytest.fail("it was opened")


async def test_url_expires_with_the_temporary_credentials_that_signed_it() -> None:
    class Temporary:
        _expiry_time = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)

    settings = S3Settings(bucket="batchd", access_key="a", secret_key=SecretStr("s"))
    async with (
        open_session(settings) as (session, _),
        open_clients(session, settings, region=settings.region) as clients,
    ):
        presigner = Presigner(clients.public, cast(Any, Temporary()), bucket="batchd")
        url = await presigner.sign("get_object", "key", validity_s=3600)
    assert url.validity_ts == Temporary._expiry_time
