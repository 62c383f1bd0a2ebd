"""The issues of a batch file that do not depend on its operation."""

from batchd.domain.errors import General
from batchd.domain.operations import ValidationIssue
from batchd.pipeline.decompression import CorruptGzip

_FILE_ISSUES = {
    "not_found": "The uploaded file was deleted before it could be copied. Upload it again.",
    "operation_order_violation": (
        "The file was uploaded again after create_batch. Upload it to a new URL, and create "
        "a batch from that."
    ),
    "quota_violation": "The file exceeds the maximum size. Split it.",
    General.name: "The file could not be read because of a defect of the service.",
}


def file_issue(code: str) -> ValidationIssue:
    """Return the issue of a file that can't be run as a whole."""
    return ValidationIssue(code=code, pointer="", message=_FILE_ISSUES[code])


def corrupt_gzip(error: CorruptGzip) -> ValidationIssue:
    return ValidationIssue(code="request_format", pointer="", message=str(error))


def too_many_lines(limit: int) -> ValidationIssue:
    message = (
        f"A batch has at most {limit} lines, and as many blank ones in addition. Split the file."
    )
    return ValidationIssue(code="quota_violation", pointer="", message=message)


def line_too_long(limit: int) -> ValidationIssue:
    message = f"The line exceeds the maximum length of {limit} bytes."
    return ValidationIssue(code="quota_violation", pointer="", message=message)


def unknown_operation(name: str) -> ValidationIssue:
    message = f"The operation '{name}' can no longer be run in batches."
    return ValidationIssue(code="operation_not_allowed", pointer="", message=message)
