"""One attempt at an upstream call: the request, the response, and the error if there is none."""

from collections.abc import Mapping

import aiohttp
import msgspec
from yarl import URL

_READ_BYTES = 64 * 1024


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The same for every attempt."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None

    def __repr__(self) -> str:
        """Omit the headers, which contain secrets, and the values from the line."""
        return f"<{self.method} {self.url.host}>"


class UpstreamResponse(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    retry_after: str
    """The header; empty if there is none, as are the next two."""
    media_type: str
    charset: str
    is_encoded: bool
    """Compressed, although batchd requests the identity encoding."""
    body: bytes | None
    """None if it is larger than the limit."""


class NoResponse(Exception):
    """No response was received; the upstream may or may not have processed the call."""

    def __init__(self, message: str, error: Exception) -> None:
        """`message` is shown to the caller and reveals nothing internal."""
        super().__init__(message)
        # For the log. Other aiohttp errors contain headers, and so secrets, and whole URLs.
        is_safe = isinstance(error, aiohttp.ClientConnectorError)
        self.cause = str(error) if is_safe else type(error).__name__
        self.timed_out = isinstance(error, TimeoutError)
        self.was_sent = not isinstance(error, aiohttp.ClientConnectorError)
        """Whether the upstream may have received the call."""


def open_client() -> aiohttp.ClientSession:
    """Return a client that keeps no cookies and ignores proxies set in the environment."""
    return aiohttp.ClientSession(
        # Each operation limits its own calls. A limit here would count waiting time as latency of
        # the upstream.
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "batchd", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


async def send(
    client: aiohttp.ClientSession,
    request: UpstreamRequest,
    *,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # the client's own, of which it has several
    max_bytes: int,
) -> UpstreamResponse:
    """Make the call once, without following redirects, which could lead anywhere.

    Raises NoResponse.
    """
    try:
        async with client.request(
            request.method,
            request.url,
            headers=request.headers,
            data=request.body,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            return UpstreamResponse(
                status=response.status,
                retry_after=response.headers.get("Retry-After", ""),
                media_type=response.content_type if "Content-Type" in response.headers else "",
                charset=response.charset or "",
                is_encoded=response.headers.get("Content-Encoding", "identity") != "identity",
                body=await _read(response, max_bytes),
            )
    except TimeoutError as error:
        raise NoResponse(f"timed out after {timeout.total:g} s", error) from error
    except aiohttp.ClientConnectorError as error:
        raise NoResponse("the connection failed", error) from error
    except (aiohttp.ClientError, OSError) as error:
        message = "the connection was closed early, or the response was not valid HTTP"
        raise NoResponse(message, error) from error


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes | None:
    """Stop at the limit; the connection is then closed, as it was not read to its end."""
    length = response.content_length
    if response.method != "HEAD" and length is not None:
        return await response.read() if length <= max_bytes else None
    parts: list[bytes] = []
    size = 0
    while part := await response.content.read(_READ_BYTES):
        size += len(part)
        if size > max_bytes:
            return None
        parts.append(part)
    return b"".join(parts)
