"""The properties of any line of a batch file, whatever its bytes."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn, Self

from batchd.pipeline.line_diagnosis import MAX_ISSUES, InvalidLine
from batchd.pipeline.line_parser import ParsedLine, check
from batchd.pipeline.validate.report import ValidationReport
from batchd.plugins.no_op import NoOp

CODES = {"request_format", "not_a_valid_json", "invalid_characters"}
_BOM = b"\xef\xbb\xbf"
_MAX_MESSAGE_LENGTH = 500


def assert_line_properties(data: bytes, *, number: int) -> None:
    """Check a line: it is reported in bounds, or taken as another parser understands it."""
    try:
        line = check(NoOp(), data, number=number)
    except InvalidLine as invalid:
        _assert_reported(invalid)
        return
    _assert_same(line, data.removeprefix(_BOM) if number == 1 else data)


def _assert_reported(invalid: InvalidLine) -> None:
    assert 1 <= len(invalid.issues) <= MAX_ISSUES
    for issue in invalid.issues:
        assert issue.code in CODES, issue
        assert issue.pointer == "" or issue.pointer.startswith("/"), issue
        assert 0 < len(issue.message) <= _MAX_MESSAGE_LENGTH, issue
        assert issue.message.endswith("."), issue
    with ValidationReport() as report:
        report.add(7, invalid.id, invalid.issues)
        (entry,) = report.encode([])
    assert len(entry.decode().splitlines()) == 1
    assert json.loads(entry)["line"] == 7


def _assert_same(line: ParsedLine, text: bytes) -> None:
    value = _parse(text)
    assert isinstance(value, dict)
    assert value.keys() <= {"id", "path", "query", "body"}
    assert line.id == value.get("id")
    request = line.request
    assert _as_written(request.path) == value.get("path", {})
    assert _as_written(request.query) == value.get("query", {})
    if "body" in value:
        assert isinstance(request.body, bytes)
        assert request.body in text
        assert _parse(request.body) == value["body"]
    else:
        assert request.body is None


def _parse(text: bytes) -> Any:
    """Parse JSON strictly, by the standard library; numbers stay texts."""
    return json.loads(
        text.decode(),
        object_pairs_hook=_unique,
        parse_float=_Number,
        parse_int=_Number,
        parse_constant=_refuse,
    )


class _Number(str):
    """A number as it was written; an integer -0 is one of two ways to write 0."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return super().__new__(cls, "0" if text == "-0" else text)


def _unique(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    members = dict(pairs)
    assert len(members) == len(pairs), "a name is given twice"
    return members


def _refuse(text: str) -> NoReturn:
    raise AssertionError(f"{text} is not JSON")


def _as_written(value: object) -> object:
    match value:
        case Mapping():
            return {name: _as_written(item) for name, item in value.items()}
        case list():
            return [_as_written(item) for item in value]
        case bool() | None:
            return value
        case int() | float():
            return _Number(str(value))
        case _:
            return value
