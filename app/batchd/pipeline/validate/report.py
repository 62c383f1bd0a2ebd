"""The validation report: one entry per invalid line, in file order."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter

import msgspec

from batchd.domain.batches import ErrorCount
from batchd.domain.operations import ValidationIssue
from batchd.pipeline.json_lines import escape_line_separators
from batchd.pipeline.line_diagnosis import MAX_ISSUES
from batchd.pipeline.validate.temporary_files import TemporaryFiles

MAX_ENTRIES = 10_000
MAX_BYTES = 16 * 1024**2
"""Of the report, without its last line."""
_LINES_PER_STEP = 1_000
_MAX_MEMORY = 1024**2
_MAX_POINTER_LENGTH = 300
_MAX_MESSAGE_LENGTH = 500


class ReportedIssue(msgspec.Struct, frozen=True, omit_defaults=True):
    """An issue as the report presents it, of limited length."""

    code: str
    pointer: str
    message: str
    help: str | None = None


class ReportEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the report."""

    line: int
    id: str | None = None
    outcome: str | None = None
    errors: tuple[ReportedIssue, ...] = ()
    codes: tuple[str, ...] = ()
    """The codes of issues that are not stored themselves; in the temporary file only."""


class _Truncation(msgspec.Struct, frozen=True):
    """The last line of a report that is not complete."""

    truncated: bool
    invalid_lines: int


class ValidationReport(TemporaryFiles):
    """Collects the entries in a temporary file; the report is bounded, whatever the file is like.

    At most MAX_ISSUES issues per line, MAX_ENTRIES lines and MAX_BYTES. A longer one ends with
    `{"truncated": true, "invalid_lines": N}`.
    """

    def __init__(self, *, help_base: str | None = None) -> None:
        """`help_base` is the base of the URLs in the issues' `help`; without it they have none."""
        super().__init__()
        self._help_base = help_base
        self._file = self._new_file(memory=_MAX_MEMORY)
        self._size = 0
        self.invalid_lines = 0
        """Those added, without the lines whose only issue is a duplicate id."""
        self._counts: dict[str, ErrorCount] = {}

    @property
    def counts(self) -> Mapping[str, ErrorCount]:
        """The invalid lines by issue code, including those that are not in the report.

        A line counts once for each of its codes. Complete once the report has been encoded.
        """
        return self._counts

    def add(self, line: int, line_id: str | None, issues: Sequence[ValidationIssue]) -> None:
        """Add an invalid line; lines come in file order."""
        self.invalid_lines += 1
        if self.invalid_lines > MAX_ENTRIES or self._size > MAX_BYTES:
            # It will not be in the report, but it counts.
            codes = tuple({issue.code for issue in issues})
            self._file.write(msgspec.json.encode(ReportEntry(line=line, codes=codes)) + b"\n")
            return
        entry = _encode(line, line_id, tuple(map(self._present, islice(issues, MAX_ISSUES))))
        self._size += len(entry)
        self._file.write(entry)

    def encode(self, duplicate_ids: Iterable[tuple[int, str]]) -> Iterator[bytes]:
        """Yield the lines of the report, including the lines with duplicate ids.

        An empty one marks a step that took time but produced no line.
        """
        self._file.seek(0)
        entries = (msgspec.json.decode(record, type=ReportEntry) for record in self._file)
        duplicates = (
            ReportEntry(line=line, id=line_id, errors=(self._present(_duplicate_id(line_id)),))
            for line, line_id in duplicate_ids
        )
        by_line = attrgetter("line")
        count = size = reported = 0
        for line, group in groupby(heapq.merge(entries, duplicates, key=by_line), key=by_line):
            line_entries = list(group)
            count += 1
            self._count(line, line_entries)
            if reported < count - 1:
                # The report is full, but there may be millions of lines to be counted.
                if count % _LINES_PER_STEP == 0:
                    yield b""
                continue
            line_id = next((entry.id for entry in line_entries if entry.id is not None), None)
            issues = tuple(issue for entry in line_entries for issue in entry.errors)
            encoded = _encode(line, line_id, issues)
            size += len(encoded)
            if count <= MAX_ENTRIES and size <= MAX_BYTES and issues:
                reported += 1
                yield encoded
        if reported < count:
            yield msgspec.json.encode(_Truncation(truncated=True, invalid_lines=count)) + b"\n"

    def _present(self, issue: ValidationIssue) -> ReportedIssue:
        return ReportedIssue(
            code=issue.code,
            pointer=issue.pointer[:_MAX_POINTER_LENGTH],
            message=issue.message[:_MAX_MESSAGE_LENGTH],
            help=None if self._help_base is None else f"{self._help_base}{issue.code}",
        )

    def _count(self, line: int, entries: Collection[ReportEntry]) -> None:
        codes = {issue.code for entry in entries for issue in entry.errors}
        codes.update(code for entry in entries for code in entry.codes)
        for code in codes:
            counted = ErrorCount(count=1, lines=(line,))
            earlier = self._counts.get(code)
            self._counts[code] = counted if earlier is None else earlier.plus(counted)


def _encode(line: int, line_id: str | None, issues: tuple[ReportedIssue, ...]) -> bytes:
    entry = ReportEntry(line=line, id=line_id, outcome="invalid", errors=issues)
    return escape_line_separators(msgspec.json.encode(entry)) + b"\n"


def _duplicate_id(line_id: str) -> ValidationIssue:
    return ValidationIssue(
        code="request_format",
        pointer="/id",
        message=f"The id '{line_id}' is used by an earlier line.",
    )
