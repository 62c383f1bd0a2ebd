"""A proxy in front of the S3 server that refuses what other S3 services refuse."""

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TypeAlias

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "expect"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def region(self) -> str:
        """The region that the request is signed for."""
        credential = self.query.get("X-Amz-Credential") or self.headers["authorization"]
        return credential.split("/")[2]

    @property
    def is_of_object(self) -> bool:
        return self.path.strip("/").count("/") > 0

    @property
    def is_listing(self) -> bool:
        return not self.is_of_object and self.method in {"GET", "HEAD"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyResponse:
    status: int
    headers: dict[str, str]
    body: bytes
    length: int = 0
    """Of the body that a HEAD tells of."""


Refusal: TypeAlias = Callable[[Request], ProxyResponse | None]
"""What the service answers instead of doing what was requested; None lets it be done."""
Change: TypeAlias = Callable[[Request, ProxyResponse], ProxyResponse]


def error(status: int, code: str, **headers: str) -> ProxyResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    return ProxyResponse(
        status=status, headers={"Content-Type": "application/xml", **named}, body=body
    )


class S3Proxy:
    """Forwards to the server, as it was signed, what no rule refuses, and keeps what was asked."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self.url = ""
        self.requests: list[Request] = []
        self.refusals: list[Refusal] = []
        self.changes: list[Change] = []

    def requests_with(self, method: str, *, query: str = "", header: str = "") -> list[Request]:
        """Return the requests with this method and, if named, a query parameter and a header."""
        return [
            request
            for request in self.requests
            if request.method == method
            and (not query or query in request.query)
            and (not header or header in request.headers)
        ]

    async def handle(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(
            method=incoming.method,
            path=incoming.rel_url.raw_path,
            query=dict(incoming.query),
            headers={name.lower(): value for name, value in incoming.headers.items()},
            body=await incoming.read(),
        )
        self.requests.append(request)
        refused = (refusal(request) for refusal in self.refusals)
        proxy_response = next((each for each in refused if each is not None), None)
        if proxy_response is None:
            proxy_response = await self._forward(incoming, request)
        for change in self.changes:
            proxy_response = change(request, proxy_response)
        is_head = request.method == "HEAD"
        response = web.StreamResponse(status=proxy_response.status, headers=proxy_response.headers)
        response.content_length = proxy_response.length if is_head else len(proxy_response.body)
        await response.prepare(incoming)
        if not is_head:
            await response.write(proxy_response.body)
        await response.write_eof()
        return response

    async def _forward(self, incoming: web.Request, request: Request) -> ProxyResponse:
        url = URL(self._server_url + incoming.raw_path, encoded=True)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in {"connection", "content-length", "expect"}
        }
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                url,
                headers=headers,
                data=BytesIO(request.body) if request.body else None,
                skip_auto_headers=["Content-Type", "Accept", "Accept-Encoding", "User-Agent"],
            ) as response,
        ):
            headers_to_pass = {
                name: value
                for name, value in response.headers.items()
                if name.lower() not in _HOP_BY_HOP
            }
            return ProxyResponse(
                status=response.status,
                headers=headers_to_pass,
                body=await response.read(),
                length=response.content_length or 0,
            )


@asynccontextmanager
async def s3_proxy(server_url: str) -> AsyncIterator[S3Proxy]:
    proxy = S3Proxy(server_url)
    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    proxy.url = str(server.make_url("")).rstrip("/")
    try:
        yield proxy
    finally:
        await server.close()


def no_part_copy(request: Request) -> ProxyResponse | None:
    return error(501, "NotImplemented") if "x-amz-copy-source" in request.headers else None


def part_copy_is_empty(request: Request) -> ProxyResponse | None:
    """Ignore the source of a copy: store an empty part."""
    if "x-amz-copy-source" not in request.headers:
        return None
    return ProxyResponse(
        status=200, headers={"ETag": '"d41d8cd98f00b204e9800998ecf8427e"'}, body=b""
    )


def no_bulk_deletion(request: Request) -> ProxyResponse | None:
    return error(501, "NotImplemented") if "delete" in request.query else None


def bulk_deletion_wants_md5(request: Request) -> ProxyResponse | None:
    if "delete" not in request.query:
        return None
    digest = base64.b64encode(hashlib.md5(request.body, usedforsecurity=False).digest()).decode()
    return None if request.headers.get("content-md5") == digest else error(400, "MissingContentMD5")


class EqualParts:
    """Wants the parts of an upload to have one size, and the last one to be no larger."""

    def __init__(self) -> None:
        self._sizes: defaultdict[str, dict[int, int]] = defaultdict(dict)

    def __call__(self, request: Request) -> ProxyResponse | None:
        upload = request.query.get("uploadId", "")
        if request.method == "PUT" and upload:
            number = int(request.query["partNumber"])
            self._sizes[upload][number] = self._size(request)
        if request.method == "POST" and upload:
            sizes = [size for _, size in sorted(self._sizes.pop(upload).items())]
            if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]:
                return error(400, "InvalidPart")
        return None

    def _size(self, request: Request) -> int:
        span = re.fullmatch(
            r"bytes=(\d+)-(\d+)", request.headers.get("x-amz-copy-source-range", "")
        )
        return int(span[2]) - int(span[1]) + 1 if span else len(request.body)


def bucket_in(region: str) -> Refusal:
    """Be the endpoint of all regions, for a bucket in this one."""

    def refuse(request: Request) -> ProxyResponse | None:
        if request.region == region:
            return None
        return error(301, "PermanentRedirect", x_amz_bucket_region=region)

    return refuse


def no_such_region(region: str) -> Refusal:
    """Be the endpoint of one region, for a bucket in this other one."""
    return lambda _: error(301, "PermanentRedirect", x_amz_bucket_region=region)


def no_listing(request: Request) -> ProxyResponse | None:
    return error(403, "AccessDenied") if request.is_listing else None


def missing_is_forbidden(request: Request, proxy_response: ProxyResponse) -> ProxyResponse:
    """Answer as S3 does to who may not list: a missing object may be there or not."""
    if proxy_response.status == 404 and request.is_of_object and request.method in {"GET", "HEAD"}:
        return error(403, "AccessDenied")
    return proxy_response


def no_access(_: Request) -> ProxyResponse | None:
    return error(403, "AccessDenied")
