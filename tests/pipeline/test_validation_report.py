"""The validation report has one entry per invalid line, with all of its issues."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchd.domain.batches import ErrorCount
from batchd.domain.operations import ValidationIssue
from batchd.pipeline.validate.report import ValidationReport

NOT_JSON = ValidationIssue(code="not_a_valid_json", pointer="", message="The line is not JSON.")
NO_BATCH = ValidationIssue(code="request_format", pointer="/path/batch", message="It is missing.")
REPEATED = {
    "code": "request_format",
    "pointer": "/id",
    "message": "The id 'a' is used by an earlier line.",
}


def as_json(issue: ValidationIssue) -> dict[str, str]:
    return {"code": issue.code, "pointer": issue.pointer, "message": issue.message}


def read(report: ValidationReport, repeated: list[tuple[int, str]]) -> list[Any]:
    lines = list(report.encode(repeated))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


def test_report_has_the_attributes_of_the_contract() -> None:
    with ValidationReport() as report:
        report.add(3, "a", [NO_BATCH])
        report.add(4, None, [NOT_JSON, NO_BATCH])
        assert read(report, []) == [
            {"line": 3, "id": "a", "outcome": "invalid", "errors": [as_json(NO_BATCH)]},
            {"line": 4, "outcome": "invalid", "errors": [as_json(NOT_JSON), as_json(NO_BATCH)]},
        ]


def test_invalid_line_with_a_duplicate_id_has_one_entry() -> None:
    with ValidationReport() as report:
        report.add(2, "a", [NO_BATCH])
        assert read(report, [(1, "a"), (2, "a"), (3, "a")]) == [
            {"line": 1, "id": "a", "outcome": "invalid", "errors": [REPEATED]},
            {"line": 2, "id": "a", "outcome": "invalid", "errors": [as_json(NO_BATCH), REPEATED]},
            {"line": 3, "id": "a", "outcome": "invalid", "errors": [REPEATED]},
        ]


def test_any_character_of_an_id_is_preserved() -> None:
    line_id = '"\n\\\u2028é\0'
    with ValidationReport() as report:
        report.add(1, line_id, [NO_BATCH])
        assert [entry["id"] for entry in read(report, [(2, line_id)])] == [line_id, line_id]


def test_valid_file_has_an_empty_report() -> None:
    with ValidationReport() as report:
        assert read(report, []) == []
        assert report.invalid_lines == 0


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)))
def test_every_invalid_line_has_one_entry_in_order(invalid: set[int], repeated: set[int]) -> None:
    with ValidationReport() as report:
        for line in sorted(invalid):
            report.add(line, None, [NOT_JSON])
        entries = read(report, [(line, "a") for line in sorted(repeated)])
    assert [entry["line"] for entry in entries] == sorted(invalid | repeated)
    for entry in entries:
        assert len(entry["errors"]) == (entry["line"] in invalid) + (entry["line"] in repeated)
        assert entry.get("id") == ("a" if entry["line"] in repeated else None)


@pytest.mark.slow
def test_report_of_many_invalid_lines_is_complete() -> None:
    count = 9_000
    with ValidationReport() as report:
        for line in range(1, count + 1):
            report.add(line, None, [NOT_JSON])
        assert report.invalid_lines == count
        assert [entry["line"] for entry in read(report, [])] == list(range(1, count + 1))


def test_report_is_bounded_and_states_the_number_of_invalid_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batchd.pipeline.validate.report.MAX_ENTRIES", 3)
    with ValidationReport() as report:
        for line in range(1, 8):
            report.add(line, None, [NO_BATCH])
        lines = read(report, [(6, "a"), (9, "a")])
    assert [line.get("line") for line in lines] == [1, 2, 3, None]
    assert lines[-1] == {"truncated": True, "invalid_lines": 8}


def test_size_of_a_report_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchd.pipeline.validate.report.MAX_BYTES", 1_000)
    with ValidationReport() as report:
        for line in range(1, 101):
            report.add(line, None, [NO_BATCH])
        encoded = list(report.encode([]))
    assert sum(map(len, encoded[:-1])) <= 1_000
    assert json.loads(encoded[-1]) == {"truncated": True, "invalid_lines": 100}


def test_lines_are_counted_by_code_even_beyond_the_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batchd.pipeline.validate.report.MAX_ENTRIES", 2)
    with ValidationReport() as report:
        for line in range(1, 8):
            report.add(line, None, [NO_BATCH, NO_BATCH, *([NOT_JSON] if line > 5 else [])])
        assert len(read(report, [(6, "a"), (9, "a")])) == 3
        assert report.counts == {
            "request_format": ErrorCount(count=8, lines=(1, 2, 3, 4, 5)),
            "not_a_valid_json": ErrorCount(count=2, lines=(6, 7)),
        }


def test_issues_of_a_line_are_bounded() -> None:
    long = ValidationIssue(code="request_format", pointer="/" + "a" * 5_000, message="b" * 5_000)
    with ValidationReport() as report:
        report.add(1, None, [long] * 50)
        (entry,) = read(report, [])
    assert len(entry["errors"]) == 20
    assert len(json.dumps(entry)) < 20_000


def test_no_entry_has_a_character_at_which_a_reader_ends_a_line() -> None:
    with ValidationReport() as report:
        report.add(1, "a\u2028b\u2029c\u0085d", [NO_BATCH])
        (encoded,) = report.encode([])
    assert len(encoded.decode().splitlines()) == 1
    assert json.loads(encoded)["id"] == "a\u2028b\u2029c\u0085d"


def test_issues_have_help_if_it_is_configured() -> None:
    with ValidationReport(help_base="https://docs.example/errors#") as report:
        report.add(1, None, [NO_BATCH])
        entries = read(report, [(1, "a")])
    assert [issue["help"] for issue in entries[0]["errors"]] == [
        "https://docs.example/errors#request_format"
    ] * 2
