"""The headers of error responses: one table for HTTP and for OpenAPI."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batchd.domain.errors import (
    BatchdError,
    MethodNotAllowed,
    ProcessingTimeout,
    StorageRefused,
    TooFast,
    Unauthorized,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorHeader:
    name: str
    description: str
    schema: Mapping[str, Any]
    value: Callable[[Any], str]
    """Computes the header's value from the error."""


RETRY_AFTER = ErrorHeader(
    name="Retry-After",
    description="Seconds to wait before the next attempt.",
    schema={"type": "integer", "minimum": 1},
    value=lambda error: str(error.retry_after_s),
)
WWW_AUTHENTICATE = ErrorHeader(
    name="WWW-Authenticate",
    description="The scheme that takes the user secret (RFC 9110, section 11.6.1).",
    schema={"type": "string"},
    value=lambda _: "Bearer",
)
ALLOW = ErrorHeader(
    name="Allow",
    description="The methods that the path supports.",
    schema={"type": "string"},
    value=lambda error: ", ".join(sorted(error.allowed)),
)

ERROR_HEADERS: Mapping[type[BatchdError], ErrorHeader] = {
    MethodNotAllowed: ALLOW,
    ProcessingTimeout: RETRY_AFTER,
    StorageRefused: RETRY_AFTER,
    TooFast: RETRY_AFTER,
    Unauthorized: WWW_AUTHENTICATE,
}
"""The errors that have a header of their own. Status and subcode are in `domain.errors`."""


def headers_of(error: BatchdError) -> Mapping[str, str]:
    """Return the headers of the response to this error."""
    header = ERROR_HEADERS.get(type(error))
    return {} if header is None else {header.name: header.value(error)}
