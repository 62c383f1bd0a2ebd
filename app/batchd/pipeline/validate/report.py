"""The validation report: every bad line, in the order of the file."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec

from batchd.domain.operations import ValidationIssue
from batchd.pipeline.validate.temporary_files import TemporaryFiles

_MEMORY = 1024**2


class BadLineEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the report."""

    line: int
    id: str | None = None
    outcome: str | None = None
    errors: tuple[ValidationIssue, ...] = ()


class Report(TemporaryFiles):
    """Collects entries in a temporary file."""

    def __init__(self) -> None:
        super().__init__()
        self._file = self._new_file(memory=_MEMORY)
        self.lines = 0

    def add(self, line: int, line_id: str | None, problems: Sequence[ValidationIssue]) -> None:
        """Add a bad line; lines come in the order of the file."""
        self._file.write(_encode(line, line_id, tuple(problems)))
        self.lines += 1

    def read(self, repeated_ids: Iterable[tuple[int, str]]) -> Iterator[bytes]:
        """Give the report's lines, with those whose id is used twice."""
        self._file.seek(0)
        entries = (msgspec.json.decode(record, type=BadLineEntry) for record in self._file)
        repeated = (
            BadLineEntry(line=line, id=line_id, errors=(_repeated(line_id),))
            for line, line_id in repeated_ids
        )
        by_line = attrgetter("line")
        for line, group in groupby(heapq.merge(entries, repeated, key=by_line), key=by_line):
            same_line = list(group)
            line_id = next((entry.id for entry in same_line if entry.id is not None), None)
            yield _encode(
                line, line_id, tuple(problem for entry in same_line for problem in entry.errors)
            )


def _encode(line: int, line_id: str | None, problems: tuple[ValidationIssue, ...]) -> bytes:
    entry = BadLineEntry(line=line, id=line_id, outcome="invalid", errors=problems)
    return msgspec.json.encode(entry) + b"\n"


def _repeated(line_id: str) -> ValidationIssue:
    return ValidationIssue(
        code="request_format",
        pointer="/id",
        message=f"The id '{line_id}' is used by an earlier line.",
    )
