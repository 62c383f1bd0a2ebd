"""The bytes of objects, moved by obstore: whole objects and ranges read, one put to write.

obstore can't do the rest as the storage port promises it, so that stays with aiobotocore: it has no
upload of single parts, lists whole path segments only, and reports just the first key that could
not be deleted.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import obstore
from aiobotocore.credentials import AioRefreshableCredentials
from botocore.exceptions import ClientError
from botocore.httpsession import get_cert_path
from obstore.store import S3Store

from batchd.configuration import InvalidSettings
from batchd.plugins.s3.client import ATTEMPTS, CONNECT_TIMEOUT_S, CONNECTIONS, READ_TIMEOUT_S
from batchd.plugins.s3.obstore_errors import obstore_call

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials
    from aiobotocore.session import AioSession
    from obstore import BytesStream, GetOptions, ObjectMeta
    from obstore.store import ClientConfig, S3Credential
    from types_aiobotocore_s3 import S3Client

    Credentials = AioCredentials | AioRefreshableCredentials

PIECE_BYTES = 256 * 1024
_MIN_CHUNK_BYTES = 128 * 1024
"""obstore returns what came in one go beyond that, up to some 400 KiB."""
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_RETRY_TIMEOUT_S = ATTEMPTS * (CONNECT_TIMEOUT_S + READ_TIMEOUT_S)
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"}
_WRONG_REGION |= {"301", "307", "400"}

Result = TypeVar("Result")


class ObjectClient:
    """Reads and writes the objects of one bucket. Raises botocore's ClientError, and OSError."""

    def __init__(
        self,
        client: "S3Client",
        session: "AioSession",
        credentials: "Credentials",
        *,
        bucket: str,
        region: str,
        find_region: Callable[[], Awaitable[str]],
    ) -> None:
        """Take from the client of aiobotocore where, and whose certificates it trusts."""
        self._client = client
        self._session = session
        self._bucket = bucket
        self._region = region
        self._find_region = find_region
        self._provider = _CredentialProvider(credentials)
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(CONNECTIONS)  # obstore opens as many as there are calls
        self._store: S3Store | None = None

    async def head(self, key: str) -> "ObjectMeta":
        return await self._call("HeadObject", lambda store: obstore.head_async(store, key))

    async def get(
        self, key: str, *, offset: int = 0, length: int | None = None, etag: str | None = None
    ) -> "ObjectBody":
        """Begin to get the object, or these bytes of it: one at least."""
        options: GetOptions = {}
        if length is not None:
            options["range"] = (offset, offset + length)
        elif offset != 0:
            options["range"] = {"offset": offset}
        if etag is not None:
            options["if_match"] = etag
        result = await self._call(
            "GetObject", lambda store: obstore.get_async(store, key, options=options)
        )
        return ObjectBody(result.stream(_MIN_CHUNK_BYTES))

    async def put(self, key: str, data: bytes) -> None:
        """Write the object; the storage must have taken it in READ_TIMEOUT_S at each attempt."""
        await self._call(
            "PutObject",
            lambda store: obstore.put_async(store, key, data, use_multipart=False),
        )

    async def _call(self, operation: str, call: Callable[[S3Store], Awaitable[Result]]) -> Result:
        await self._provider.refresh()
        region = self._region
        try:
            return await self._attempt(operation, call)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _WRONG_REGION:
                raise
            if not await self._change_region(region):
                raise
        return await self._attempt(operation, call)

    async def _attempt(
        self, operation: str, call: Callable[[S3Store], Awaitable[Result]]
    ) -> Result:
        store = await self._open()
        async with self._slots:
            with obstore_call(operation):
                return await call(store)

    async def _open(self) -> S3Store:
        if self._store is None:
            async with self._opening:
                if self._store is None:
                    self._store = await self._new_store()
        return self._store

    async def _change_region(self, region: str) -> bool:
        """Find the bucket's region, which was not known at the start; False if it is this one."""
        try:
            found_region = await self._find_region()
        except InvalidSettings:  # the refusal says as much
            return False
        if found_region == region:
            return False
        self._region, self._store = found_region, None
        return True

    async def _new_store(self) -> S3Store:
        url = await self._bucket_url()
        options: ClientConfig = {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "read_timeout": timedelta(seconds=READ_TIMEOUT_S),
            # Of a whole response, which may take as long as its reader does.
            "timeout": timedelta(days=7),
        }
        if url.startswith("https:"):
            options["root_certificate"] = await asyncio.to_thread(self._certificates)
        return S3Store(
            self._bucket,
            # obstore reads variables of its own from the environment, also ones that botocore
            # does not know: what is set here takes precedence.
            aws_endpoint_url_s3=url,
            virtual_hosted_style_request=True,
            region=self._region,
            skip_signature=False,
            s3_express=False,
            unsigned_payload=False,
            client_options=options,
            retry_config={
                "max_retries": ATTEMPTS - 1,
                "retry_timeout": timedelta(seconds=_RETRY_TIMEOUT_S),
            },
            credential_provider=self._provider,
        )

    async def _bucket_url(self) -> str:
        """Return the bucket's URL as botocore makes it, with either addressing."""
        url = await self._client.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": "key"}
        )
        return url.partition("?")[0].removesuffix("/key")

    def _certificates(self) -> bytes:
        """Return the certificates of the authorities that botocore trusts."""
        bundle = self._session.get_config_variable("ca_bundle")
        find: Callable[[object], str] = cast(Any, get_cert_path)  # it takes more than its stub says
        path = find(bundle or os.environ.get("REQUESTS_CA_BUNDLE") or True)
        return Path(path).read_bytes()


class ObjectBody:
    """The bytes of an object, as they come."""

    def __init__(self, stream: "BytesStream") -> None:
        self._stream = stream
        self._chunk = b""
        self._offset = 0

    async def read(self) -> bytes:
        """Return the next piece, of at most PIECE_BYTES; an empty one at the end."""
        if self._offset >= len(self._chunk):
            self._offset = 0
            with obstore_call("GetObject"):
                try:
                    self._chunk = await anext(self._stream)
                except StopAsyncIteration:
                    self._chunk = b""
        piece = self._chunk[self._offset : self._offset + PIECE_BYTES]
        self._offset += PIECE_BYTES
        return piece


class _CredentialProvider:
    """Hands obstore the credentials that aiobotocore has; waiting for new ones is done before."""

    def __init__(self, credentials: "Credentials") -> None:
        self._credentials = credentials
        self._current: S3Credential | None = None

    async def refresh(self) -> None:
        """Wait for valid credentials. Raises botocore's errors."""
        frozen: Any = await self._credentials.get_frozen_credentials()
        is_temporary = isinstance(self._credentials, AioRefreshableCredentials)
        self._current = {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # obstore asks at every request for what it believes to have expired: only aiobotocore
            # caches temporary credentials, so that both use the same ones.
            "expires_at": _LONG_AGO if is_temporary else None,
        }

    def __call__(self) -> "S3Credential":
        if self._current is None:
            raise RuntimeError("no credentials were fetched yet")
        return self._current
