"""URLs that need no other credential: AWS Signature Version 4 in the query string."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from batchd.domain.ports import SignedUrl

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials

REMEMBERED = 20_000
"""Some 25 MB."""
MOST = 0.75
"""Of its time, what a URL must have left to be handed out again."""
MAX_VALIDITY_S = 7 * 24 * 3600
"""S3 refuses URLs that would live longer."""


class RecentUrls:
    """URLs signed a moment ago: still good answers, as long as most of their time is left."""

    def __init__(self) -> None:
        self._urls: OrderedDict[tuple[str, str], SignedUrl] = OrderedDict()

    def find(self, key: str, filename: str, *, validity_s: int) -> SignedUrl | None:
        """Return one that works for nearly as long as a new one would."""
        signed = self._urls.get((key, filename))
        if signed is None:
            return None
        left_s = (signed.validity_ts - datetime.now(UTC)).total_seconds()
        return signed if left_s >= MOST * min(validity_s, MAX_VALIDITY_S) else None

    def keep(self, key: str, filename: str, signed: SignedUrl) -> None:
        self._urls[key, filename] = signed
        self._urls.move_to_end((key, filename))
        if len(self._urls) > REMEMBERED:
            self._urls.popitem(last=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSigner:
    credentials: "Callable[[], Awaitable[AioCredentials]]"
    region: str
    bucket_url: str
    """Where callers reach the bucket."""

    async def sign(
        self,
        method: Literal["GET", "PUT"],
        key: str,
        *,
        validity_s: int,
        query: Mapping[str, str] | None = None,
    ) -> SignedUrl:
        """Return a URL for one method, one key and exactly this query."""
        # The signer alone, without the client's machinery around it: 0.18 ms instead of 0.45.
        credentials = await self.credentials()
        frozen = await credentials.get_frozen_credentials()
        validity_s = min(validity_s, MAX_VALIDITY_S)
        request = AWSRequest(
            method=method, url=f"{self.bucket_url}/{quote(key)}", params=dict(query or {})
        )
        S3SigV4QueryAuth(frozen, "s3", self.region, expires=validity_s).add_auth(request)
        signed_at = datetime.strptime(request.context["timestamp"], SIGV4_TIMESTAMP).replace(
            tzinfo=UTC
        )
        validity_ts = signed_at + timedelta(seconds=validity_s)
        # A URL dies with the temporary credentials that signed it. botocore has no public name for
        # their end; permanent credentials don't have the attribute.
        expiry: datetime | None = getattr(credentials, "_expiry_time", None)
        if expiry is not None:
            validity_ts = min(validity_ts, expiry.replace(microsecond=0))
        return SignedUrl(url=str(request.url), validity_ts=validity_ts)


def bucket_url(
    endpoint: str | None, *, bucket: str, region: str, addressing: Literal["path", "virtual"]
) -> str:
    """Return the bucket's URL at the endpoint; None is AWS."""
    parts = urlsplit((endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/"))
    match addressing:
        case "path":
            return parts._replace(path=f"{parts.path}/{bucket}").geturl()
        case "virtual":
            return parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()
