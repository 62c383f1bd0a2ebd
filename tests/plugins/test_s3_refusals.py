"""An error of the storage is an outage or a refusal, by a list of the storage's error codes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.ports import ObjectMissing, Storage
from batchd.plugins.s3.errors import (
    DESCRIPTION,
    MISSING_CODES,
    OUTAGE_CODES,
    REFUSED_CODES,
    failed_keys,
    storage_call,
)
from tests.support.refusing_s3 import RefusingS3, everything, refusing_s3
from tests.support.s3_storage import LINES, get, keys_of, open_storage, put


def client_error(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]  # as far as it is read
        "PutObject",
    )


def translated(error: Exception) -> Exception:
    with pytest.raises(Exception) as caught, storage_call("write", "key"):  # noqa: PT011  # any
        raise error
    return caught.value


@pytest.mark.parametrize("code", sorted(REFUSED_CODES))
def test_refusal_code_is_a_refusal(code: str) -> None:
    """Whatever the HTTP status is: NotImplemented comes with 501."""
    error = translated(client_error(code, 501))
    assert isinstance(error, StorageRefused)
    assert error.code == code
    assert str(error) == f"{code}: cannot write key"
    assert error.description == DESCRIPTION
    assert (error.status, error.subcode) == (503, 503159)


@pytest.mark.parametrize("code", sorted(OUTAGE_CODES))
def test_outage_code_is_an_outage(code: str) -> None:
    error = translated(client_error(code, 400))
    assert isinstance(error, ProcessingTimeout)
    assert error.is_outage


@pytest.mark.parametrize("code", sorted(MISSING_CODES))
def test_missing_object_code_is_a_missing_object(code: str) -> None:
    assert isinstance(translated(client_error(code, 404)), ObjectMissing)


def test_lists_have_no_code_in_common() -> None:
    assert not (OUTAGE_CODES & REFUSED_CODES) | (MISSING_CODES & (OUTAGE_CODES | REFUSED_CODES))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, StorageRefused),
        (400, StorageRefused),
        (403, StorageRefused),
        (408, ProcessingTimeout),
        (429, ProcessingTimeout),
        (500, ProcessingTimeout),
        (503, ProcessingTimeout),
    ],
)
def test_code_that_is_not_listed_is_judged_by_its_status(
    status: int, expected: type[Exception]
) -> None:
    assert isinstance(translated(client_error("Unheard", status)), expected)


def test_missing_credentials_are_a_refusal() -> None:
    assert isinstance(translated(NoCredentialsError()), StorageRefused)


def test_timeout_is_an_outage() -> None:
    error = translated(ConnectTimeoutError(endpoint_url="http://localhost"))
    assert isinstance(error, ProcessingTimeout)


def test_refusal_of_one_key_outweighs_the_outage_of_another() -> None:
    errors = [{"Key": "a", "Code": "InternalError"}, {"Key": "b", "Code": "AccessDenied"}]
    refusal = failed_keys("delete", errors)
    assert isinstance(refusal, StorageRefused)
    assert str(refusal) == "AccessDenied: cannot delete b"
    assert isinstance(failed_keys("delete", errors[:1]), ProcessingTimeout)


@pytest.fixture
async def proxy(s3: SeaweedFS) -> AsyncIterator[RefusingS3]:
    async with refusing_s3(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def refusing(s3: SeaweedFS, proxy: RefusingS3) -> AsyncIterator[Storage]:
    async with open_storage(s3, endpoint=proxy.url) as storage:
        yield storage


PROBES = 3
"""What is asked to tell a missing object from a forbidden one."""


@pytest.mark.parametrize(
    ("call", "requests"),
    [
        ("stat", 1 + PROBES),
        ("check", 1 + PROBES),
        ("delete", 1),
        ("list", 1),
        ("read", 1 + PROBES),
        ("write", 1),
    ],
)
async def test_every_call_reports_a_refusal(
    refusing: Storage, proxy: RefusingS3, key: str, call: str, requests: int
) -> None:
    await put(refusing, key, LINES)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "stat": lambda: refusing.stat(key),
        "check": refusing.check,
        "delete": lambda: refusing.delete([key]),
        "list": lambda: keys_of(refusing, key),
        "read": lambda: get(refusing, key),
        "write": lambda: put(refusing, key, LINES),
    }
    proxy.refuse(everything, "AccessDenied", status=HTTPStatus.FORBIDDEN)
    with pytest.raises(StorageRefused):
        await calls[call]()
    assert proxy.refused == requests
