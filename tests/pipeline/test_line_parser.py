"""One line of a batch file: parsed unchanged, or refused with every issue."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchd.domain.json_text import has_unique_names, parse_syntax, repeated_names
from batchd.domain.operations import (
    OperationCall,
    OperationRequest,
    OperationResult,
    ValidationIssue,
)
from batchd.pipeline.line_diagnosis import InvalidLine
from batchd.pipeline.line_parser import ParsedLine, check, parse
from batchd.pipeline.validate.report import ValidationReport

CODES = {"request_format", "not_a_valid_json", "invalid_characters"}

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=3)
good_lines = st.fixed_dictionaries(
    {},
    optional={
        "path": objects,
        "query": objects,
        "body": objects,
        "id": st.text(min_size=1, max_size=64),
    },
)
# Lines that are almost right, written as people and programs write them.
near_lines = st.dictionaries(
    st.sampled_from(["path", "query", "body", "id", "headers"]) | st.text(max_size=3),
    objects | values,
    max_size=4,
)


@dataclass(frozen=True, slots=True)
class Refusing:
    """An operation that finds the same wrong with each line."""

    issues: Sequence[ValidationIssue]
    name: str = "refusing"

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        return self.issues

    async def run(self, call: OperationCall) -> OperationResult:
        raise NotImplementedError


def refusal_of(data: bytes) -> InvalidLine | None:
    try:
        parse(data, number=2)
    except InvalidLine as invalid_line:
        return invalid_line
    return None


def parse_invalid(data: bytes) -> InvalidLine:
    invalid_line = refusal_of(data)
    assert invalid_line is not None
    return invalid_line


def codes_and_pointers(invalid_line: InvalidLine) -> list[tuple[str, str]]:
    return [(issue.code, issue.pointer) for issue in invalid_line.issues]


@pytest.mark.slow
@given(good_lines, st.booleans(), st.sampled_from(["", "\r", " \t\r"]))
def test_valid_line_is_parsed_unchanged(
    line: Mapping[str, object],
    escaped: bool,
    end: str,
) -> None:
    parsed = parse((json.dumps(line, ensure_ascii=escaped) + end).encode(), number=7)
    assert parsed == ParsedLine(
        id=line.get("id"),  # type: ignore[arg-type]  # the strategy makes strings
        request=OperationRequest(
            path=line.get("path", {}),  # type: ignore[arg-type]  # … and objects
            query=line.get("query", {}),  # type: ignore[arg-type]
            body=json.dumps(line["body"], ensure_ascii=escaped).encode()
            if "body" in line
            else None,
        ),
    )


NOT_JSON = [
    b"no json",
    b'{"id": "a"',
    b'{"id": "a"} {}',
    b"{'id': 'a'}",
    b'{"id": "a",}',
    b'{"path": {"n": NaN}}',
    b'{"id": "tab\there"}',
    b'{"id": "\\ud800"}',
    b"\xef\xbb\xbf{}",  # only the file has a byte order mark
]


@pytest.mark.parametrize("data", NOT_JSON, ids=lambda data: repr(data[:16]))
def test_line_that_is_not_json_is_refused(data: bytes) -> None:
    assert codes_and_pointers(parse_invalid(data)) == [("not_a_valid_json", "")]


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b'{"id": "\xff"}',
        b'{"\xc3": {}}',
        b'{"path": {"batch": "\xed\xa0\x80"}}',
        b'{"body": {"\xff": 1}}',
    ],
)
def test_line_that_is_not_utf8_is_refused(data: bytes) -> None:
    assert codes_and_pointers(parse_invalid(data)) == [("invalid_characters", "")]


@pytest.mark.parametrize(
    "body", [b'{"v": 12.50}', b'{ "v":123456789012345.123456\t}', b'{"v":1e999,"\\u00e9":-0}']
)
def test_body_is_preserved_byte_for_byte(body: bytes) -> None:
    assert parse(b'{"body": %b , "id": "a"}' % body, number=1).request.body == body


@pytest.mark.parametrize("text", ["12.50", "1e3", "-0.0", "1E400", "123456789012345.123456"])
def test_decimals_of_parameters_are_preserved(text: str) -> None:
    request = parse(b'{"path": {"a": %b}}' % text.encode(), number=1).request
    assert str(request.path["a"]) == text
    assert request.path["a"] == float(text)


SURROGATE = (
    "The line is not JSON: \\{} is half of a surrogate pair, whose other half is missing (byte {})."
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"id": "\xff"}', "Byte 9 of the line is not UTF-8."),
        (b'{"id": \xff}', "Byte 8 of the line is not UTF-8."),
        (b'{"id": ?}', "The line is not JSON: invalid character (byte 8)."),
        (
            '{"id": \u00a0"a"}'.encode(),
            "The line is not JSON: invalid character: U+00A0 (byte 8).",
        ),
        (b'{"id": \0}', "The line is not JSON: invalid character: U+0000 (byte 8)."),
        (b'{"id": "\t"}', "The line is not JSON: invalid character: U+0009 (byte 9)."),
        (b'{"id": "t\t"}', "The line is not JSON: invalid character: U+0009 (byte 10)."),
        (b'{"id": NaN}', "The line is not JSON: NaN is not a number in JSON (byte 8)."),
        (
            b'{"id":\xef\xbb\xbf"a"}',
            "The line is not JSON: invalid character: U+FEFF, a byte order mark (byte 7).",
        ),
        (
            b'{"id":"a"}\xef\xbb\xbf',
            "The line is not JSON: trailing characters: U+FEFF, a byte order mark (byte 11).",
        ),
        (b'{"id":"a"}{}', "The line is not JSON: trailing characters (byte 11)."),
        (b'{"id":"a"} \x1a', "The line is not JSON: trailing characters: U+001A (byte 12)."),
        (
            b'{"id":"\\u12z4"}',
            "The line is not JSON: invalid character in unicode escape (byte 12).",
        ),
        (b'{"id":"\\q"}', "The line is not JSON: invalid escaped character (byte 9)."),
        (b'{"body":tru}', "The line is not JSON: invalid character (byte 9)."),
        (b"{'id':1}", "The line is not JSON: expected '\"' (byte 2)."),
        (b'{"id": "a"', "The line is not JSON: it ends in the middle."),
        (b'{"path":{},"id":"x\\ud83d"}', SURROGATE.format("ud83d", 19)),
        (b'{"id":"x\\ud83d and \\ude00"}', SURROGATE.format("ud83d", 9)),
        (b'{"id":"\\\\ud83d\\ud83d\\ude00\\uDE00", "body": {}}', SURROGATE.format("uDE00", 27)),
        (
            b'\xef\xbb\xbf{"id": "a"}',
            (
                "The line begins with a byte order mark (U+FEFF), which only the file may begin "
                "with: remove it. Joining files leaves one at the start of each."
            ),
        ),
        (b"[]", "The line is not a JSON object, but a list."),
        (b"7", "The line is not a JSON object, but a number."),
        (b"null", "The line is not a JSON object, but null."),
        (b'{"body": null}', "'body' must not be null: leave it out."),
        (b'{"id": null}', "'id' must not be null: leave it out."),
        (b'{"path": "x"}', "'path' must be an object, not text."),
        (b'{"query": [1]}', "'query' must be an object, not a list."),
        (b'{"body": 1.5}', "'body' must be an object, not a number."),
        (b'{"id": 7}', "'id' must be text of 1 to 64 characters, not a number."),
        (b'{"id": ""}', "'id' must be text of 1 to 64 characters; it has 0."),
        (
            b'{"paht": {}}',
            (
                "Unknown attribute 'paht': a line may have 'id', 'path', 'query', 'body'. "
                "Perhaps 'path' is meant."
            ),
        ),
        (
            b'{"path": {"x": %b}}' % (b"9" * 5000),
            "A number of the path or the query has too many digits.",
        ),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else "",
)
def test_message_explains_the_fault_and_its_position(data: bytes, message: str) -> None:
    assert [issue.message for issue in parse_invalid(data).issues] == [message]


def test_bytes_of_the_first_line_are_counted_from_the_start_of_the_file() -> None:
    with pytest.raises(InvalidLine) as caught:
        parse(b'\xef\xbb\xbf{"id": ?}', number=1)
    assert caught.value.issues[0].message == "The line is not JSON: invalid character (byte 11)."


@pytest.mark.parametrize("data", [b"[]", b'"id"', b"1", b"null", b"true", b'[{"id": "a"}]'])
def test_line_that_is_not_an_object_is_refused(data: bytes) -> None:
    assert codes_and_pointers(parse_invalid(data)) == [("request_format", "")]


@pytest.mark.parametrize(
    ("line", "pointers", "line_id"),
    [
        ({"id": "a", "path": "x"}, ["/path"], "a"),
        ({"id": "a", "query": []}, ["/query"], "a"),
        ({"id": "a", "body": None}, ["/body"], "a"),
        ({"id": "a", "body": "{}"}, ["/body"], "a"),
        ({"id": "a", "headers": {}}, ["/headers"], "a"),
        ({"a/b~c": 1}, ["/a~1b~0c"], None),
        ({"": 1}, ["/"], None),
        ({"id": 7}, ["/id"], None),
        ({"id": None}, ["/id"], None),
        ({"id": ""}, ["/id"], None),
        ({"id": "x" * 65}, ["/id"], None),
        ({"path": 1, "query": 2, "body": 3, "id": 4, "more": 5}, None, None),
    ],
)
def test_every_invalid_part_is_named(
    line: Mapping[str, object], pointers: list[str] | None, line_id: str | None
) -> None:
    invalid_line = parse_invalid(json.dumps(line).encode())
    expected_pointers = pointers or [f"/{name}" for name in line]
    assert codes_and_pointers(invalid_line) == [
        ("request_format", pointer) for pointer in expected_pointers
    ]
    assert invalid_line.id == line_id


def test_id_of_64_characters_is_accepted() -> None:
    line_id = "é" * 64
    assert parse(json.dumps({"id": line_id}).encode(), number=1).id == line_id


@pytest.mark.parametrize(
    ("data", "pointers"),
    [
        (b'{"id":"one","path":{"batch":"AAA"},"path":{"batch":"BBB"}}', ["/path"]),
        (b'{"path": {}, "path": {}}', ["/path"]),
        (b'{"path": {"a": 1, "a": 1}}', ["/path/a"]),
        (b'{"path": {"a": 1, "\\u0061": 2}}', ["/path/a"]),
        (b'{"query": {"": 1, "b": {}, "": 1}}', ["/query/"]),
        (b'{"body": {"a": [{}, {"b/c": 1, "b/c": 2}]}}', ["/body/a/1/b~1c"]),
        (b'{"body": {"a": {"b": 1e999, "b": 2}, "a": 3}}', ["/body/a/b", "/body/a"]),
        (b'{"body": {"n": %b, "a": 1, "a": 2}}' % (b"9" * 5000), ["/body/a"]),
        (b'{"id": "a", "id": "b"}', ["/id"]),
        (b'{"path": 1, "path": {}}', ["/path", "/path"]),
        (b'{"id": 5, "id": "a"}', ["/id", "/id"]),
        (b'{"more": 1, "more": 2}', ["/more", "/more", "/more"]),
        (b'{"body": {%b}}' % b", ".join([b'"a": 1'] * 100), ["/body/a"] * 20),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else "",
)
def test_duplicate_name_is_refused_at_every_depth(data: bytes, pointers: list[str]) -> None:
    with pytest.raises(InvalidLine) as caught:
        check(Refusing([]), data, number=2)
    assert codes_and_pointers(caught.value) == [("request_format", pointer) for pointer in pointers]
    assert caught.value.id == ("one" if b"one" in data else None)


@pytest.mark.parametrize(
    "data",
    [
        b'{"path": {"a": "a"}, "query": {"a": "a"}, "body": {"a": [{"a": 12.50}, {"a": 1}]}}',
        b'{"body": {"a": "\\"a\\": 1, \\"a\\": 1", "b": ":", "A": "\\u00e9"}, "id": ":"}',
        b'{"body": {"n": %b, "a": 1e999}}' % (b"9" * 5000),
    ],
)
def test_same_name_in_different_objects_is_accepted(data: bytes) -> None:
    check(Refusing([]), data, number=2)


def nested(levels: int) -> bytes:
    """Return a line of so many levels; brackets in a string are none."""
    return b'{"body":%b{"s":"[{[{"}%b}' % (b'{"a":' * (levels - 2), b"}" * (levels - 2))


def test_line_of_the_maximum_nesting_is_accepted() -> None:
    check(Refusing([]), nested(200), number=1)


@pytest.mark.parametrize(
    "data",
    [nested(201), nested(256), nested(5000), b"[" * 100_000, b'{"path":' * 100_000],
    ids=["201", "256", "5000", "lists", "objects"],
)
def test_line_that_is_nested_too_deeply_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidLine) as caught:
        check(Refusing([]), data, number=1)
    assert codes_and_pointers(caught.value) == [("request_format", "")]
    assert caught.value.issues[0].message == "The line is nested more than 200 levels deep."


# Names, white space, escapes and numbers that the quick way must not be misled by.
pairs = st.lists(
    st.tuples(
        st.sampled_from(['"a"', '"b"', '"\\u0061"', '""', '":"']), st.deferred(lambda: texts)
    ),
    max_size=3,
)
texts: st.SearchStrategy[str] = st.sampled_from(
    ["1", "1.50", '"a"', '"\\"a\\":"', '"é"', "null"]
) | st.deferred(
    lambda: (
        pairs.map(lambda members: "{" + ", ".join(f"{n}:{v}" for n, v in members) + "}")
        | st.lists(texts, max_size=3).map(lambda items: f"[{','.join(items)}]")
    )
)


@given(texts)
def test_fast_check_for_duplicate_names_is_correct(text: str) -> None:
    data = text.encode()
    assert has_unique_names(data) is (list(repeated_names(parse_syntax(data))) == [])


def test_byte_order_mark_is_skipped_at_the_start_of_the_file_only() -> None:
    assert parse(b'\xef\xbb\xbf{"id": "a"}', number=1).id == "a"
    assert codes_and_pointers(parse_invalid(b'\xef\xbb\xbf{"id": "a"}')) == [
        ("not_a_valid_json", "")
    ]


@pytest.mark.slow
@given(
    st.binary(max_size=30)
    | near_lines.map(lambda line: json.dumps(line).encode())
    | st.tuples(near_lines, st.integers(0, 80), st.binary(max_size=2)).map(
        lambda case: json.dumps(case[0]).encode()[: case[1]] + case[2]
    )
)
def test_any_line_is_accepted_or_refused_with_reasons(data: bytes) -> None:
    invalid_line = refusal_of(data)
    if invalid_line is None:
        return
    assert invalid_line.issues
    assert {issue.code for issue in invalid_line.issues} <= CODES
    assert all(issue.message for issue in invalid_line.issues)
    with ValidationReport() as report:
        report.add(2, invalid_line.id, invalid_line.issues)
        (entry,) = map(json.loads, report.encode([]))
    assert entry["line"] == 2
    assert entry["errors"]


def test_check_returns_the_issues_of_the_operation_and_the_id() -> None:
    missing = ValidationIssue(
        code="request_format", pointer="/path/batch", message="It is missing."
    )
    with pytest.raises(InvalidLine) as caught:
        check(Refusing([missing]), b'{"id": "a"}', number=1)
    assert caught.value.issues == [missing]
    assert caught.value.id == "a"
    assert check(Refusing([]), b'{"id": "a"}', number=1).id == "a"


@dataclass(frozen=True, slots=True)
class Failing:
    """An operation whose check raises, or returns what is no issue."""

    outcome: object
    name: str = "failing"

    def check(self, request: OperationRequest) -> Sequence[ValidationIssue]:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome  # type: ignore[return-value]

    async def run(self, call: OperationCall) -> OperationResult:
        raise NotImplementedError


@pytest.mark.parametrize(
    "outcome",
    [RecursionError("too deep"), ValueError("secret"), None, ["no issue"]],
    ids=lambda outcome: type(outcome).__name__,
)
def test_failing_check_is_an_issue_of_its_line(outcome: object) -> None:
    with pytest.raises(InvalidLine) as caught:
        check(Failing(outcome), b'{"id": "a"}', number=1)
    assert caught.value.id == "a"
    assert caught.value.defect is not None
    (issue,) = caught.value.issues
    assert (issue.code, issue.pointer) == ("general", "")
    assert "'failing' could not check the line" in issue.message
    assert "secret" not in issue.message
