"""The diagnosis of an invalid line of a batch file: every issue, with a message."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import TypeGuard

import msgspec

from batchd.domain.errors import InvalidCharacters, NotAValidJson, RequestFormat
from batchd.domain.json_text import (
    MAX_NESTING,
    JsonNumber,
    JsonObject,
    describe_error,
    is_nested_too_deeply,
    parse_syntax,
    pointer_token,
    quoted,
    repeated_names,
)
from batchd.domain.operations import ValidationIssue
from batchd.domain.suggestions import hint
from batchd.pipeline.line_reader import BOM

MAX_ID_LENGTH = 64
MAX_ISSUES = 20
"""Per line."""

_OBJECTS = ("path", "query", "body")
_ID = f"text of 1 to {MAX_ID_LENGTH} characters"


class InvalidLine(Exception):
    """The line is invalid: `issues` lists what is, `id` is the line's id if valid."""

    def __init__(
        self,
        issues: list[ValidationIssue],
        line_id: str | None = None,
        *,
        defect: Exception | None = None,
    ) -> None:
        super().__init__(issues)
        self.issues = issues
        self.id = line_id
        self.defect = defect
        """What the operation raised instead of checking the line."""


def diagnose(data: bytes, *, skipped: int = 0) -> InvalidLine:
    """Return all issues of an invalid line; `skipped` bytes before `data` count as well."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        position = error.start + 1 + skipped
        return _invalid(InvalidCharacters.name, f"Byte {position} of the line is not UTF-8.")
    if data.startswith(BOM):
        message = (
            "The line begins with a byte order mark (U+FEFF), which only the file may begin with: "
            "remove it. Joining files leaves one at the start of each."
        )
        return _invalid(NotAValidJson.name, message)
    if is_nested_too_deeply(data):
        message = f"The line is nested more than {MAX_NESTING} levels deep."
        return _invalid(RequestFormat.name, message)
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except msgspec.MsgspecError as error:
        reason = describe_error(data, str(error), skipped=skipped)
        return _invalid(NotAValidJson.name, f"The line is not JSON: {reason}.")
    line = parse_syntax(data)
    if not isinstance(line, JsonObject):
        message = f"The line is not a JSON object, but {_kind(line)}."
        return _invalid(RequestFormat.name, message)
    ids = [value for name, value in line if name == "id"]
    line_id = ids[0] if len(ids) == 1 else None
    issues = list(islice(_find_issues(line), MAX_ISSUES)) or [_TOO_MANY_DIGITS]
    return InvalidLine(issues, line_id if _is_id(line_id) else None)


def _invalid(code: str, message: str) -> InvalidLine:
    return InvalidLine([ValidationIssue(code=code, pointer="", message=message)])


def _issue(pointer: str, message: str) -> ValidationIssue:
    return ValidationIssue(code=RequestFormat.name, pointer=pointer, message=message)


_TOO_MANY_DIGITS = _issue("", "A number of the path or the query has too many digits.")
"""What remains if nothing else is wrong."""


def _find_issues(line: JsonObject) -> Iterator[ValidationIssue]:
    repeated = (
        _issue(pointer, f"'{quoted(name)}' is given twice in one object: leave one of them out.")
        for pointer, name in repeated_names(line)
    )
    attributes = (
        _issue(f"/{pointer_token(name)}", message)
        for name, value in line
        if (message := _check(name, value)) is not None
    )
    return chain(repeated, attributes)


def _check(name: str, value: object) -> str | None:
    """Say what is wrong with an attribute of the line."""
    if name not in {"id", *_OBJECTS}:
        text = f"Unknown attribute '{quoted(name)}': a line may have 'id', 'path', 'query', 'body'."
        return text + hint(name, ("id", *_OBJECTS))
    if value is None:
        return f"'{name}' must not be null: leave it out."
    if name == "id":
        if not _is_text(value):
            return f"'id' must be {_ID}, not {_kind(value)}."
        return None if _is_id(value) else f"'id' must be {_ID}; it has {len(value)}."
    return (
        None
        if isinstance(value, JsonObject)
        else f"'{name}' must be an object, not {_kind(value)}."
    )


def _is_id(value: object) -> TypeGuard[str]:
    return _is_text(value) and 1 <= len(value) <= MAX_ID_LENGTH


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, JsonNumber)


def _kind(value: object) -> str:
    match value:
        case JsonNumber():
            return "a number"
        case str():
            return "text"
        case JsonObject():
            return "an object"
        case list():
            return "a list"
        case bool():
            return str(value).lower()
        case _:
            return "null"
