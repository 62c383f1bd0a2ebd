"""One attempt at a call: what is sent, and what comes back."""

from collections.abc import Mapping

import aiohttp
import msgspec
from yarl import URL

_PIECE = 64 * 1024


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The same for every attempt."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None

    def __repr__(self) -> str:
        """Tell no headers, for they hold secrets, nor what a line gives."""
        return f"<{self.method} {self.url.host}>"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    retry_after: str
    """The header, empty if there is none; likewise the next two."""
    media_type: str
    charset: str
    is_encoded: bool
    """Compressed, though batchd asks for plain text."""
    body: bytes | None
    """None: it is larger than is taken."""


class NoResponse(Exception):
    """There is no answer, and no telling whether the call was carried out."""

    def __init__(self, words: str, error: Exception) -> None:
        """`words` are for the caller, and tell nothing internal."""
        super().__init__(words)
        # For the log. Other errors of aiohttp show headers, which hold secrets, and whole URLs.
        shown = isinstance(error, aiohttp.ClientConnectorError)
        self.cause = str(error) if shown else type(error).__name__


def open_client() -> aiohttp.ClientSession:
    """Return a client that keeps no cookies and takes no proxy from the environment."""
    return aiohttp.ClientSession(
        # Each operation bounds its own calls. A bound here would count waiting as a slow upstream.
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "batchd", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


async def send(
    client: aiohttp.ClientSession,
    request: Request,
    *,
    patience: aiohttp.ClientTimeout,
    max_bytes: int,
) -> Reply:
    """Make the call once, and follow no redirect: it could lead anywhere. Raises NoResponse."""
    try:
        async with client.request(
            request.method,
            request.url,
            headers=request.headers,
            data=request.body,
            timeout=patience,
            allow_redirects=False,
        ) as response:
            return Reply(
                status=response.status,
                retry_after=response.headers.get("Retry-After", ""),
                media_type=response.content_type if "Content-Type" in response.headers else "",
                charset=response.charset or "",
                is_encoded=response.headers.get("Content-Encoding", "identity") != "identity",
                body=await _read(response, max_bytes),
            )
    except TimeoutError as error:
        raise NoResponse(f"not within {patience.total:g} s", error) from error
    except aiohttp.ClientConnectorError as error:
        raise NoResponse("no connection could be made", error) from error
    except (aiohttp.ClientError, OSError) as error:
        raise NoResponse("the connection broke off, or what came was not HTTP", error) from error


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes | None:
    """Stop at the bound; the connection, not read to its end, is closed then."""
    length = response.content_length
    if response.method != "HEAD" and length is not None:
        return await response.read() if length <= max_bytes else None
    pieces: list[bytes] = []
    size = 0
    while piece := await response.content.read(_PIECE):
        size += len(piece)
        if size > max_bytes:
            return None
        pieces.append(piece)
    return b"".join(pieces)
