"""The URLs of the S3 storage: the same bytes that botocore signs, whatever the key and the day."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal
from unittest.mock import patch

import botocore.session
from aiobotocore.credentials import AioCredentials, AioRefreshableCredentials
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from hypothesis import example, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from batchd.plugins.s3.presigning import UrlSigner, bucket_url

NOW = datetime(2026, 3, 1, 23, 59, 59, 987_654, UTC)
REGION = "eu-central-1"
Addressing = Literal["path", "virtual"]

keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
words = st.text(st.characters(codec="utf-8"), max_size=60)
tokens = st.none() | st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]))
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
endpoints = st.sampled_from(
    [
        "http://127.0.0.1:8333",
        "https://Files.Example.com:443/",
        "http://files.example.com:80",
        "https://files.example.com/s3/",
        "http://[::1]:9000",
    ]
)


def signer_of(
    credentials: AioCredentials | AioRefreshableCredentials,
    *,
    endpoint: str = "https://files.example.com",
    addressing: Addressing = "path",
    now: Callable[[], datetime] = lambda: NOW,
) -> UrlSigner:
    async def held() -> Any:
        return credentials

    url = bucket_url(endpoint, bucket="batchd", region=REGION, addressing=addressing)
    return UrlSigner(credentials=held, region=REGION, bucket_url=url, now=now)


@contextmanager
def botocore_at(moment: datetime) -> Iterator[None]:
    with patch("botocore.auth.get_current_datetime", lambda: moment.replace(tzinfo=None)):
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    access_key: str
    secret_key: str
    token: str | None


@given(
    key=keys,
    query=st.dictionaries(
        st.sampled_from(["response-content-type", "response-content-disposition", "partNumber"]),
        words,
    ),
    endpoint=endpoints,
    addressing=st.sampled_from(["path", "virtual"]),
    held=st.builds(
        Keys, access_key=st.text("ABC+/=@ é", min_size=1), secret_key=words, token=tokens
    ),
    moment=moments,
    validity_s=st.integers(1, 604_800),
)
@example(
    key="/a//../b+c ~é",
    query={},
    endpoint="http://127.0.0.1:8333",
    addressing="virtual",
    held=Keys(access_key="A", secret_key="", token=""),
    moment=NOW,
    validity_s=1,
)
async def test_url_is_the_one_that_botocore_signs(
    *,
    key: str,
    query: dict[str, str],
    endpoint: str,
    addressing: Addressing,
    held: Keys,
    moment: datetime,
    validity_s: int,
) -> None:
    signer = signer_of(
        AioCredentials(held.access_key, held.secret_key, held.token),
        endpoint=endpoint,
        addressing=addressing,
        now=lambda: moment,
    )

    signed = await signer.sign("GET", key, validity_s=validity_s, query=query)

    request = AWSRequest(method="GET", url=signed.url.partition("?")[0], params=dict(query))
    frozen = ReadOnlyCredentials(held.access_key, held.secret_key, held.token)
    with botocore_at(moment):
        S3SigV4QueryAuth(frozen, "s3", REGION, expires=validity_s).add_auth(request)
    assert signed.url == request.url


@cache
def client_of(addressing: Addressing, token: str | None) -> Any:
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url="http://files.example.com:8333",
        region_name=REGION,
        aws_access_key_id="access",
        aws_secret_access_key="secret",
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": addressing}),
    )


@with_settings(deadline=None)  # to make a client takes long
@given(
    key=keys,
    filename=words,
    addressing=st.sampled_from(["path", "virtual"]),
    token=st.sampled_from([None, "of/a+role=="]),
)
@example(key="/a//../b", filename="b.jsonl", addressing="virtual", token=None)
@example(key="/a//../b", filename="", addressing="path", token=None)
async def test_url_is_the_one_that_the_client_would_have_made(
    key: str, filename: str, addressing: Addressing, token: str | None
) -> None:
    signer = signer_of(
        AioCredentials("access", "secret", token),
        endpoint="http://files.example.com:8333",
        addressing=addressing,
    )
    query = {"response-content-disposition": filename}

    download = await signer.sign("GET", key, validity_s=900, query=query)
    upload = await signer.sign("PUT", key, validity_s=60)

    client, place = client_of(addressing, token), {"Bucket": "batchd", "Key": key}
    with botocore_at(NOW):
        assert download.url == client.generate_presigned_url(
            "get_object", Params={**place, "ResponseContentDisposition": filename}, ExpiresIn=900
        )
        assert upload.url == client.generate_presigned_url("put_object", Params=place, ExpiresIn=60)


async def test_next_day_has_a_key_of_its_own() -> None:
    moments = [NOW, NOW + timedelta(seconds=1), NOW]
    signer = signer_of(AioCredentials("access", "secret"), now=iter(moments).__next__)

    first, next_day, again = [await signer.sign("GET", "a", validity_s=60) for _ in moments]

    assert "X-Amz-Date=20260301T235959Z" in first.url
    assert "X-Amz-Credential=access%2F20260302%2F" in next_day.url
    assert again == first
    fresh = signer_of(AioCredentials("access", "secret"), now=lambda: moments[1])
    assert next_day == await fresh.sign("GET", "a", validity_s=60)


async def test_credentials_that_were_refreshed_sign_from_then_on() -> None:
    clock = [NOW]
    end = NOW + timedelta(hours=1)

    async def refresh() -> dict[str, str]:
        later = clock[0] + timedelta(hours=1)
        return {
            "access_key": "second",
            "secret_key": "other",
            "token": "new",
            "expiry_time": later.isoformat(),
        }

    held = AioRefreshableCredentials(
        *("first", "secret", "old", end, refresh, "test"), time_fetcher=lambda: clock[0]
    )
    signer = signer_of(held, now=lambda: clock[0])

    before = await signer.sign("GET", "a", validity_s=900)
    clock[0] = end
    after = await signer.sign("GET", "a", validity_s=7 * 24 * 3600)

    assert "X-Amz-Credential=first%2F" in before.url
    assert before.validity_ts == NOW.replace(microsecond=0) + timedelta(seconds=900)
    # The URL dies with the credentials.
    assert after.validity_ts == (end + timedelta(hours=1)).replace(microsecond=0)
    fresh = signer_of(AioCredentials("second", "other", "new"), now=lambda: clock[0])
    assert after.url == (await fresh.sign("GET", "a", validity_s=7 * 24 * 3600)).url
