"""Translates the vendor's exceptions to those of the storage port."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from batchd.domain.errors import ProcessingTimeout, StorageRefused
from batchd.domain.ports import ObjectChanged, ObjectMissing

logger = logging.getLogger(__name__)

DESCRIPTION = "The storage is not responding. Try again in a few seconds."

MISSING_CODES = frozenset({"NoSuchKey", "404", "NotFound"})
OUTAGE_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "ExpiredToken",  # temporary credentials are renewed
        "InternalError",
        "OperationAborted",  # another change of the same bucket is in progress
        "RequestTimeout",
        "ServerBusy",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
"""Outages, which end without intervention and are waited out."""
REFUSED_CODES = frozenset(
    {
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "BadDigest",
        "EntityTooLarge",
        "EntityTooSmall",
        "Forbidden",
        "IllegalLocationConstraintException",
        "InvalidAccessKeyId",
        "InvalidArgument",
        "InvalidBucketName",
        "InvalidBucketState",
        "InvalidDigest",
        "InvalidObjectState",
        "InvalidPart",
        "InvalidPartOrder",
        "InvalidRequest",
        "InvalidSecurity",
        "InvalidStorageClass",
        "InvalidToken",
        "KeyTooLongError",
        "MalformedXML",
        "MethodNotAllowed",
        "MissingContentLength",
        "MissingContentMD5",
        "MissingSecurityHeader",
        "NoSuchBucket",
        "NoSuchUpload",
        "NotImplemented",
        "NotSignedUp",
        "PermanentRedirect",
        "QuotaExceeded",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TemporaryRedirect",
        "XAmzContentSHA256Mismatch",
    }
)
"""Refusals, which the same call will get again until the configuration changes."""
_OUTAGE_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})

_REFUSED_ERRORS = (
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.ParamValidationError,
    botocore.UnknownSignatureVersionError,
    botocore.UnsupportedSignatureVersionError,
)
_OUTAGE_ERRORS = (
    botocore.BotoCoreError,
    ResponseParserError,  # the response of a proxy, not of the storage
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)


class RangeEmpty(Exception):
    """The object ends before the range begins."""


@contextmanager
def storage_call(action: str, key: str = "") -> Iterator[None]:
    """Translate the failure of a call to an exception of the port.

    Raises ObjectMissing, ObjectChanged, RangeEmpty, StorageRefused or, for an outage,
    ProcessingTimeout.
    Wrap the call alone: the processing of its response fails in other ways.
    """
    try:
        yield
    except botocore.ClientError as error:
        code = error.response["Error"]["Code"]
        if code in MISSING_CODES:
            raise ObjectMissing(key) from None
        if code in {"PreconditionFailed", "412"}:
            raise ObjectChanged(key) from None
        if code in {"InvalidRange", "416"}:
            raise RangeEmpty from None
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise failed(action, key, code=code, status=status, cause=error) from error
    except _REFUSED_ERRORS as error:
        raise refused(action, key, code=type(error).__name__, cause=error) from error
    except _OUTAGE_ERRORS as error:
        raise not_responding(action, key, error) from error


def failed(
    action: str, key: str, *, code: str, status: int, cause: object
) -> ProcessingTimeout | StorageRefused:
    """Return the meaning of a storage error code; that of the HTTP status if it is not listed."""
    if code in REFUSED_CODES or not (code in OUTAGE_CODES or _is_outage_status(status)):
        return refused(action, key, code=code, cause=cause)
    return not_responding(action, key, cause)


def failed_keys(
    action: str, errors: Sequence[Mapping[str, Any]]
) -> ProcessingTimeout | StorageRefused:
    """Return the meaning of the errors of single keys in one call: a refusal takes precedence."""
    first = min(errors, key=lambda error: error.get("Code") not in REFUSED_CODES)
    # Without a status: a code that is not listed is an outage here.
    return failed(
        action,
        first.get("Key", ""),
        code=first.get("Code", ""),
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        cause=errors,
    )


def refused(action: str, key: str, *, code: str, cause: object) -> StorageRefused:
    """Log the cause, which callers must not see; return the error."""
    logger.error("storage: refused to %s %s: %s: %s", action, key, code, cause)
    return StorageRefused(DESCRIPTION, code=code, action=f"{action} {key}")


def not_responding(action: str, key: str, cause: object) -> ProcessingTimeout:
    """Log the cause, which callers must not see; return the error."""
    logger.warning("storage: cannot %s %s: %s", action, key, cause)
    return ProcessingTimeout(DESCRIPTION)


def _is_outage_status(status: int) -> bool:
    # The response to HEAD has no code: botocore uses the status as the code.
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _OUTAGE_STATUSES
