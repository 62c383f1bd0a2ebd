"""What obstore has to take from batchd's settings and from aiobotocore, and how it fails."""

import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.exceptions import ClientError
from obstore.exceptions import BaseError, GenericError, PermissionDeniedError

from batchd.devstack.seaweedfs import SeaweedFS
from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.ports import Storage
from batchd.plugins.s3 import s3_storage
from batchd.plugins.s3.obstore_errors import obstore_call
from tests.support.s3_proxy import ProxyResponse, Request, S3Proxy, bucket_in, error, s3_proxy
from tests.support.s3_storage import LINES, get, open_storage, put, size_of, storage_context

REGION = "eu-central-1"
_OPENSSL = """\
req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=CA
req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server
x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -extfile names
""".splitlines()
"""Make an authority, and a certificate of it."""


def failed(status: int, reason: str, body: str = "") -> str:
    """Return the text of obstore's errors."""
    return (
        "Generic S3 error: Error performing GET http://localhost/b/k in 1ms - "
        f"Server returned non-2xx status code: {status} {reason}: {body}\n\n"
        "Debug source:\nGeneric { body: <Code>Other</Code> }"
    )


@pytest.mark.parametrize(
    ("raised", "code", "status"),
    [
        (GenericError(failed(500, "Internal", "<Code>InternalError</Code>")), "InternalError", 500),
        (GenericError(failed(503, "Unavailable", "<html>Busy</html>")), "503", 503),
        (PermissionDeniedError(failed(403, "Forbidden")), "403", 403),
        (
            FileNotFoundError(failed(404, "Not Found", "<Code>NoSuchBucket</Code>")),
            "NoSuchBucket",
            404,
        ),
        (
            GenericError("- Received redirect without LOCATION, this normally indicates"),
            "PermanentRedirect",
            301,
        ),
    ],
    ids=["code", "proxy", "head", "missing", "redirect"],
)
def test_a_refusal_has_the_code_of_the_storage(
    raised: BaseError | OSError, code: str, status: int
) -> None:
    with pytest.raises(ClientError) as caught, obstore_call("GetObject"):
        raise raised
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert "Debug source" not in str(caught.value)


def test_what_has_no_status_was_not_answered() -> None:
    with pytest.raises(OSError, match=r"error sending request$"), obstore_call("GetObject"):
        raise GenericError("HTTP error: error sending request\n\nDebug source:\nGeneric {}")


@pytest.fixture
async def proxy(s3: SeaweedFS) -> AsyncIterator[S3Proxy]:
    async with s3_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def proxied(s3: SeaweedFS, proxy: S3Proxy) -> AsyncIterator[Storage]:
    async with open_storage(s3, endpoint=proxy.url) as storage:
        yield storage


async def test_the_region_is_found_out_later_where_the_storage_did_not_respond_at_first(
    s3: SeaweedFS, proxy: S3Proxy, key: str
) -> None:
    proxy.refusals.append(lambda _: error(503, "ServiceUnavailable"))
    async with open_storage(s3, endpoint=proxy.url) as storage:
        proxy.refusals[:] = [bucket_in(REGION)]

        await put(storage, key, LINES)
        assert await get(storage, key) == LINES
        assert await size_of(storage, key) == len(LINES)

    assert proxy.requests[-1].region == REGION


async def test_variables_of_the_environment_do_not_outweigh_the_settings(
    s3: SeaweedFS, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of other credentials")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_REGION", "nowhere-1")
    async with open_storage(s3) as storage:
        await put(storage, key, LINES)
        assert await get(storage, key) == LINES


async def test_a_refused_key_outweighs_one_that_may_be_deleted_later(
    proxied: Storage, proxy: S3Proxy, key: str
) -> None:
    """Also where it is not the first: obstore would tell of no other."""
    failures = "".join(
        f"<Error><Key>{name}</Key><Code>{code}</Code><Message>no</Message></Error>"
        for name, code in [("a", "InternalError"), ("b", "AccessDenied")]
    )
    body = f"<DeleteResult>{failures}</DeleteResult>".encode()

    def fail(request: Request) -> ProxyResponse | None:
        is_deletion = "delete" in request.query
        return ProxyResponse(status=200, headers={}, body=body) if is_deletion else None

    proxy.refusals.append(fail)

    with pytest.raises(StorageRefused, match="AccessDenied: cannot delete b"):
        await proxied.delete([f"{key}/a", f"{key}/b"])


async def test_the_bucket_is_in_the_host_name_with_virtual_addressing(
    proxy: S3Proxy, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name need not resolve: the environment names a proxy for HTTP, which is used as well."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    proxy.refusals.append(lambda _: ProxyResponse(status=200, headers={"ETag": '"1"'}, body=LINES))
    values = {"endpoint": "http://s3.example.com", "access_key": "access", "secret_key": "secret"}
    context = storage_context(**values, addressing="virtual")
    async with s3_storage(context) as storage:
        opened = len(proxy.requests)
        await put(storage, key, LINES)

    (request,) = proxy.requests[opened:]
    assert request.path == f"/{key}"
    assert request.headers["host"] == "batchd.s3.example.com"


@asynccontextmanager
async def tls_storage(folder: Path) -> AsyncIterator[Storage]:
    """Open a storage whose certificate only its own authority vouches for."""

    async def reply(_: web.Request) -> web.Response:
        return web.Response(body=LINES, headers={"ETag": '"1"'})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", reply)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(ssl=context)
    values = {"access_key": "access", "secret_key": "secret"}
    endpoint = f"https://127.0.0.1:{server.port}"
    try:
        async with s3_storage(storage_context(endpoint=endpoint, **values)) as storage:
            yield storage
    finally:
        await server.close()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """Return a folder with an authority and a certificate of it for 127.0.0.1."""
    names = tmp_path / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n", encoding="utf-8")
    for command in _OPENSSL:
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


async def test_the_authority_that_botocore_is_told_of_is_trusted(
    certificates: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates / "ca.pem"))
    async with tls_storage(certificates) as storage:
        assert await get(storage, key) == LINES


@pytest.mark.slow  # each attempt counts
async def test_an_unknown_authority_is_not_trusted(certificates: Path, key: str) -> None:
    async with tls_storage(certificates) as storage:
        with pytest.raises(ProcessingTimeout):
            await get(storage, key)
