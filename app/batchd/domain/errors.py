"""Every way a call can fail, as the contract lists them: HTTP status, subcode and name."""

from typing import ClassVar


class BatchdError(Exception):
    """A failure that the caller is told about. `description` says what is wrong and what to do."""

    status: ClassVar[int]
    subcode: ClassVar[int]
    name: ClassVar[str]

    def __init__(self, description: str) -> None:
        super().__init__(description)
        self.description = description


class Unauthorized(BatchdError):
    """No secret, an unknown one or an expired one: one answer, so that none can be told apart."""

    status, subcode, name = 401, 401000, "unauthorized"


class AccessForbidden(BatchdError):
    """The role's statement does not allow the operation."""

    status, subcode, name = 403, 403535, "access_forbidden"


class NotFound(BatchdError):
    """No such thing in this account, or no such path."""

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
    """Too many requests in too short a time; Retry-After says when to come again."""

    status: ClassVar[int] = 429

    def __init__(self, description: str, *, retry_after_s: int) -> None:
        super().__init__(description)
        self.retry_after_s = retry_after_s


class IdempotencyViolation(BatchdError):
    """It has been done already."""

    status, subcode, name = 400, 400358, "idempotency_violation"


class OperationOrderViolation(BatchdError):
    """It can't be done in this state."""

    status, subcode, name = 400, 400592, "operation_order_violation"


class OperationNotAllowed(BatchdError):
    """Not an operation for batches."""

    status, subcode, name = 400, 400897, "operation_not_allowed"


class MethodNotAllowed(OperationNotAllowed):
    """The path exists, but not for this method; Allow names those it has."""

    status: ClassVar[int] = 405

    def __init__(self, description: str, *, allowed: frozenset[str]) -> None:
        super().__init__(description)
        self.allowed = allowed


class ProcessingTimeout(BatchdError):
    """The database, the storage or the authorizer does not answer.

    `is_outage` is False if the work ran into a time limit of ours while the server was responding:
    trying it again without a bound does not help.
    """

    status, subcode, name = 503, 503159, "processing_timeout"
    retry_after_s = 2

    def __init__(self, description: str, *, is_outage: bool = True) -> None:
        super().__init__(description)
        self.is_outage = is_outage


class StorageRefused(BatchdError):
    """The storage refuses a call, and will refuse it again until somebody changes something.

    `code` is the storage's own error code. Only the log and the record of the job's failures have
    it; callers are told what they are told during an outage.
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
    """A defect of ours. Its description never tells more than that."""

    status, subcode, name = 500, 500000, "general"


def help_url(error: BatchdError | type[BatchdError], base: str | None) -> str | None:
    """Return where an error is documented (docs/errors.md); None without a base URL."""
    return None if base is None else f"{base}{error.name}"
