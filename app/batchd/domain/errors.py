"""The errors of the contract: HTTP status, subcode and name of each."""

from typing import ClassVar


class BatchdError(Exception):
    """A failure that is reported to the caller. `description` says what is wrong and what to do."""

    status: ClassVar[int]
    subcode: ClassVar[int]
    name: ClassVar[str]

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description = description


class Unauthorized(BatchdError):
    """The secret is missing, unknown or expired; the error does not reveal which."""

    status, subcode, name = 401, 401000, "unauthorized"


class AccessForbidden(BatchdError):
    """The role's statement does not allow the operation."""

    status, subcode, name = 403, 403535, "access_forbidden"


class NotFound(BatchdError):
    """No such object in this account, or no such path."""

    status, subcode, name = 404, 404653, "not_found"


class RequestFormat(BatchdError):
    """A parameter or attribute is of the wrong type, unknown or missing."""

    status, subcode, name = 400, 400589, "request_format"


class HeadTooLarge(RequestFormat):
    """The request line or the headers are too long, or there are too many headers."""

    status: ClassVar[int] = 431


class NotAValidJson(BatchdError):
    """The body is not JSON."""

    status, subcode, name = 400, 400415, "not_a_valid_json"


class InvalidCharacters(BatchdError):
    """The body is not UTF-8."""

    status, subcode, name = 400, 400314, "invalid_characters"


class QuotaViolation(BatchdError):
    """A limit on size or number is reached."""

    status, subcode, name = 400, 400141, "quota_violation"


class TooFast(QuotaViolation):
    """Too many requests in too short a time; Retry-After says when to retry."""

    status: ClassVar[int] = 429

    def __init__(self, description: str, *, retry_after_s: int) -> None:
        super().__init__(description)
        self.retry_after_s = retry_after_s


class IdempotencyViolation(BatchdError):
    """The request has been carried out already."""

    status, subcode, name = 400, 400358, "idempotency_violation"


class OperationOrderViolation(BatchdError):
    """The operation is not possible in this state."""

    status, subcode, name = 400, 400592, "operation_order_violation"


class OperationNotAllowed(BatchdError):
    """The operation can't be run in batches."""

    status, subcode, name = 400, 400897, "operation_not_allowed"


class MethodNotAllowed(OperationNotAllowed):
    """The path does not support this method; Allow lists those that it supports."""

    status: ClassVar[int] = 405

    def __init__(self, description: str, *, allowed: frozenset[str]) -> None:
        super().__init__(description)
        self.allowed = allowed


class ProcessingTimeout(BatchdError):
    """The database, the storage or the authorizer does not respond.

    `is_outage` is False if the work exceeded a time limit of batchd although the server responds:
    unlimited retries do not help.
    """

    status, subcode, name = 503, 503159, "processing_timeout"
    retry_after_s = 2

    def __init__(self, description: str, *, is_outage: bool = True) -> None:
        super().__init__(description)
        self.is_outage = is_outage


class StorageRefused(BatchdError):
    """The storage refuses a call, and will refuse it again until its configuration changes.

    `code` is the storage's own error code. Only the log and the record of the job's failures have
    it; callers get the same error as during an outage.
    """

    status, subcode, name = 503, 503159, "processing_timeout"
    retry_after_s = 30

    def __init__(self, description: str, *, code: str, action: str) -> None:
        super().__init__(description)
        self.code = code
        self.action = action

    def __str__(self) -> str:
        return f"{self.code}: cannot {self.action}"


class General(BatchdError):
    """A defect of batchd. Its description never reveals more than that."""

    status, subcode, name = 500, 500000, "general"


def help_url(error: BatchdError | type[BatchdError], base: str | None) -> str | None:
    """Return where an error is documented (docs/errors.md); None without a base URL."""
    return None if base is None else f"{base}{error.name}"
