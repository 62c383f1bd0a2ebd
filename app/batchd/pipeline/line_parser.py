"""The parser of a batch file's lines, which finds every issue of a line."""

from collections.abc import Mapping
from typing import Any

import msgspec

from batchd.domain.operations import (
    Operation,
    OperationRequest,
    ValidationIssue,
    WrittenFloat,
)
from batchd.pipeline.line_reader import BOM

MAX_ID_LENGTH = 64
_OBJECTS = ("path", "query", "body")


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    path: dict[str, Any] = {}
    query: dict[str, Any] = {}
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET


class ParsedLine(msgspec.Struct, frozen=True):
    id: str | None
    request: OperationRequest


class InvalidLine(Exception):
    """The line is invalid: `issues` lists everything that is, `id` is the line's id if valid."""

    def __init__(self, issues: list[ValidationIssue], line_id: str | None = None) -> None:
        super().__init__(issues)
        self.issues = issues
        self.id = line_id


_DUPLICATE_ATTRIBUTE = ValidationIssue(
    code="request_format",
    pointer="",
    message="An attribute is given twice, once with an invalid value.",
)
"""The only remaining cause when the last value of each attribute is valid."""

_line_decoder = msgspec.json.Decoder(_Line, float_hook=WrittenFloat)
# Numbers of any size are valid: those of a body are not converted here.
_json_decoder = msgspec.json.Decoder(float_hook=float)


def parse(data: bytes, *, number: int) -> ParsedLine:
    """Parse a line. Raises InvalidLine."""
    if number == 1:
        data = data.removeprefix(BOM)
    try:
        if not data.isascii():
            data.decode()  # the decoder does not look into the body
        line = _line_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _diagnose(data) from None
    line_id = None if line.id is msgspec.UNSET else line.id
    body = None if line.body is msgspec.UNSET else bytes(line.body)
    if line_id is not None and not 1 <= len(line_id) <= MAX_ID_LENGTH:
        raise _diagnose(data)
    if body is not None and not body.startswith(b"{"):
        raise _diagnose(data)
    return ParsedLine(line_id, OperationRequest(path=line.path, query=line.query, body=body))


def check(operation: Operation, data: bytes, *, number: int) -> ParsedLine:
    """Parse a line and check it like a direct call of the operation. Raises InvalidLine."""
    line = parse(data, number=number)
    issues = operation.check(line.request)
    if issues:
        raise InvalidLine(list(issues), line.id)
    return line


def _diagnose(data: bytes) -> InvalidLine:
    """Return all issues of a line of which `parse` has only found the first."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return _invalid("invalid_characters", f"Byte {error.start + 1} of the line is not UTF-8.")
    try:
        value = _json_decoder.decode(text)
    except msgspec.MsgspecError as error:
        return _invalid("not_a_valid_json", f"The line is not JSON: {error}.")
    except RecursionError:
        return _invalid("not_a_valid_json", "The line is nested too deeply.")
    if not isinstance(value, dict):
        return _invalid("request_format", "The line is not a JSON object.")
    line_id = value.get("id")
    return InvalidLine(
        _find_issues(value) or [_DUPLICATE_ATTRIBUTE], line_id if _is_id(line_id) else None
    )


def _invalid(code: str, message: str) -> InvalidLine:
    return InvalidLine([ValidationIssue(code=code, pointer="", message=message)])


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_ID_LENGTH


def _find_issues(line: Mapping[str, object]) -> list[ValidationIssue]:
    issues = []
    for name, value in line.items():
        if name == "id":
            message = f"'id' must be a string of 1 to {MAX_ID_LENGTH} characters."
            valid = _is_id(value)
        elif name in _OBJECTS:
            message = f"'{name}' must be an object."
            valid = isinstance(value, dict)
        else:
            message = (
                f"Unknown attribute '{name[:MAX_ID_LENGTH]}': "
                "a line may have 'id', 'path', 'query' and 'body'."
            )
            valid = False
        if not valid:
            pointer = "/" + name.replace("~", "~0").replace("/", "~1")
            issues.append(ValidationIssue(code="request_format", pointer=pointer, message=message))
    return issues
