"""The parser of a batch file's lines, and the check of a line by its operation."""

from itertools import islice
from typing import Any

import msgspec

from batchd.domain.errors import General
from batchd.domain.json_text import has_unique_names, is_nested_too_deeply
from batchd.domain.operations import (
    Operation,
    OperationRequest,
    ValidationIssue,
    WrittenFloat,
)
from batchd.pipeline.line_diagnosis import MAX_ID_LENGTH, MAX_ISSUES, InvalidLine, diagnose
from batchd.pipeline.line_reader import BOM


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    path: dict[str, Any] = {}
    query: dict[str, Any] = {}
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET


class ParsedLine(msgspec.Struct, frozen=True):
    id: str | None
    request: OperationRequest


_line_decoder = msgspec.json.Decoder(_Line, float_hook=WrittenFloat)


def parse(data: bytes, *, number: int) -> ParsedLine:
    """Parse a line that has been checked, or raise InvalidLine."""
    return _parse(data, _skipped(data, number))


def check(operation: Operation, data: bytes, *, number: int) -> ParsedLine:
    """Parse a line and check it like a direct call of the operation. Raises InvalidLine."""
    skipped = _skipped(data, number)
    line = _parse(data, skipped)
    text = data[skipped:]
    if is_nested_too_deeply(text) or not has_unique_names(text):
        raise diagnose(text, skipped=skipped)
    issues = _check(operation, line)
    if issues:
        raise InvalidLine(issues, line.id)
    return line


def _skipped(data: bytes, number: int) -> int:
    """Return the length of the byte order mark that the file may begin with."""
    return len(BOM) if number == 1 and data.startswith(BOM) else 0


def _parse(data: bytes, skipped: int) -> ParsedLine:
    text = data[skipped:]
    try:
        if not text.isascii():
            text.decode()  # the decoder does not check the body
        line = _line_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise diagnose(text, skipped=skipped) from None
    line_id = None if line.id is msgspec.UNSET else line.id
    body = None if line.body is msgspec.UNSET else bytes(line.body)
    if (line_id is not None and not 1 <= len(line_id) <= MAX_ID_LENGTH) or (
        body is not None and not body.startswith(b"{")
    ):
        raise diagnose(text, skipped=skipped)
    return ParsedLine(line_id, OperationRequest(path=line.path, query=line.query, body=body))


def _check(operation: Operation, line: ParsedLine) -> list[ValidationIssue]:
    """Return the issues that the operation finds.

    Raises InvalidLine for any exception of the operation: it is an issue of this line alone.
    """
    try:
        checked = operation.check(line.request)
        if checked == ():  # the usual case
            return []
        issues = list(islice(checked, MAX_ISSUES))
        if not all(isinstance(issue, ValidationIssue) for issue in issues):
            raise TypeError(f"`check` of {operation.name} returned {issues!r:.200}")
    except Exception as error:
        issue = ValidationIssue(
            code=General.name,
            pointer="",
            message=(
                f"The operation '{operation.name}' could not check the line "
                f"({type(error).__name__}), because of a defect of the operation or of the service."
            ),
        )
        raise InvalidLine([issue], line.id, defect=error) from error
    return issues
