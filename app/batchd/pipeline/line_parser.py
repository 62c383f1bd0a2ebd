"""One line of a batch file: its form, and everything that is wrong with it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from batchd.domain.operations import Operation, OperationRequest, ValidationIssue
from batchd.pipeline.line_reader import BOM

MAX_ID_LENGTH = 64
_PARTS = ("path", "query", "body")


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    path: dict[str, Any] = {}
    query: dict[str, Any] = {}
    body: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    id: str | msgspec.UnsetType = msgspec.UNSET


class ParsedLine(msgspec.Struct, frozen=True):
    id: str | None
    request: OperationRequest


class BadLine(Exception):
    """The line is not valid; `problems` says all that is wrong, `id` is its id where it has one."""

    def __init__(self, problems: list[ValidationIssue], line_id: str | None = None) -> None:
        super().__init__(problems)
        self.problems = problems
        self.id = line_id


_TWICE = ValidationIssue(
    code="request_format",
    pointer="",
    message="A part is given twice, once with a wrong value.",
)
"""What is left when nothing is wrong with the values that stand last."""

_decoder = msgspec.json.Decoder(_Line)
_any_decoder = msgspec.json.Decoder()


def parse(data: bytes, *, number: int) -> ParsedLine:
    """Read a line. Raises BadLine."""
    if number == 1:
        data = data.removeprefix(BOM)
    try:
        line = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _diagnose(data) from None
    line_id = None if line.id is msgspec.UNSET else line.id
    if line_id is not None and not 1 <= len(line_id) <= MAX_ID_LENGTH:
        raise _diagnose(data)
    return ParsedLine(
        line_id,
        OperationRequest(
            path=line.path,
            query=line.query,
            body=None if line.body is msgspec.UNSET else line.body,
        ),
    )


def check(operation: Operation, data: bytes, *, number: int) -> ParsedLine:
    """Read a line and hold it against the form of a direct call. Raises BadLine."""
    line = parse(data, number=number)
    problems = operation.check(line.request)
    if problems:
        raise BadLine(list(problems), line.id)
    return line


def _diagnose(data: bytes) -> BadLine:
    """Say in full what `parse` found wrong in the first place it looked."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        message = f"Byte {error.start + 1} of the line is not UTF-8."
        return BadLine([ValidationIssue(code="invalid_characters", pointer="", message=message)])
    try:
        value = _any_decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        message = f"The line is not JSON: {error}."
        if isinstance(error, RecursionError):
            message = "The line is nested too deeply."
        return BadLine([ValidationIssue(code="not_a_valid_json", pointer="", message=message)])
    if not isinstance(value, dict):
        message = "The line is not a JSON object."
        return BadLine([ValidationIssue(code="request_format", pointer="", message=message)])
    line_id = value.get("id")
    return BadLine(_problems(value) or [_TWICE], line_id if _is_id(line_id) else None)


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_ID_LENGTH


def _problems(line: Mapping[str, object]) -> list[ValidationIssue]:
    problems = []
    for name, value in line.items():
        if name == "id":
            message = f"An id is a string of 1 to {MAX_ID_LENGTH} characters."
            wrong = not _is_id(value)
        elif name in _PARTS:
            message = f"The part '{name}' is an object."
            wrong = not isinstance(value, dict)
        else:
            message = (
                f"There is no part '{name[:MAX_ID_LENGTH]}': a line has id, path, query, body."
            )
            wrong = True
        if wrong:
            pointer = "/" + name.replace("~", "~0").replace("/", "~1")
            problems.append(
                ValidationIssue(code="request_format", pointer=pointer, message=message)
            )
    return problems
