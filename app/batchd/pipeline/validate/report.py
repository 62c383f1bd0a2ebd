"""The validation report: one entry per invalid line, in file order."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec

from batchd.domain.operations import ValidationIssue
from batchd.pipeline.validate.temporary_files import TemporaryFiles

_MAX_MEMORY = 1024**2


class ReportEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the report."""

    line: int
    id: str | None = None
    outcome: str | None = None
    errors: tuple[ValidationIssue, ...] = ()


class ValidationReport(TemporaryFiles):
    """Collects the entries in a temporary file."""

    def __init__(self) -> None:
        super().__init__()
        self._file = self._new_file(memory=_MAX_MEMORY)
        self.invalid_lines = 0
        """Those added, without the lines whose only issue is a duplicate id."""

    def add(self, line: int, line_id: str | None, issues: Sequence[ValidationIssue]) -> None:
        """Add an invalid line; lines come in file order."""
        self._file.write(_encode(line, line_id, tuple(issues)))
        self.invalid_lines += 1

    def encode(self, duplicate_ids: Iterable[tuple[int, str]]) -> Iterator[bytes]:
        """Yield the lines of the report, including the lines with duplicate ids."""
        self._file.seek(0)
        entries = (msgspec.json.decode(record, type=ReportEntry) for record in self._file)
        duplicates = (
            ReportEntry(line=line, id=line_id, errors=(_duplicate_id(line_id),))
            for line, line_id in duplicate_ids
        )
        by_line = attrgetter("line")
        for line, group in groupby(heapq.merge(entries, duplicates, key=by_line), key=by_line):
            line_entries = list(group)
            line_id = next((entry.id for entry in line_entries if entry.id is not None), None)
            yield _encode(
                line, line_id, tuple(issue for entry in line_entries for issue in entry.errors)
            )


def _encode(line: int, line_id: str | None, issues: tuple[ValidationIssue, ...]) -> bytes:
    entry = ReportEntry(line=line, id=line_id, outcome="invalid", errors=issues)
    return msgspec.json.encode(entry) + b"\n"


def _duplicate_id(line_id: str) -> ValidationIssue:
    return ValidationIssue(
        code="request_format",
        pointer="/id",
        message=f"The id '{line_id}' is used by an earlier line.",
    )
