"""The statements in the .csv files of a policy: each line is validated before Casbin sees it."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from batchd.plugins.casbin.errors import Fault, InvalidPolicy, decode

ANY = "*"
EFFECTS = ("allow", "deny")
SCOPES = ("any", "own")

# Plain tuples of strings rather than named tuples: only these are untracked by Python's garbage
# collector. While it traverses 30,000 tracked objects, every request waits.
Rule: TypeAlias = tuple[str, str, str, str, str]
"""A line `p, …`: role, account, operation, effect, scope, as model.conf defines it."""
Link: TypeAlias = tuple[str, str]
"""A line `g, …`: a role, and the role that it inherits from."""
Location: TypeAlias = tuple[str, int]
"""File name and line number."""

_ROLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_OPERATION = re.compile(r"\*|[a-z_][a-z0-9_]{0,63}")
_ACCOUNT = re.compile(r"\*|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MAX_FAULTS = 100


def format_rule(rule: Rule) -> str:
    """Return the rule as a line of a policy file."""
    *columns, scope = rule
    return ", ".join(("p", *columns) if scope == "any" else ("p", *rule))


@dataclass(frozen=True, slots=True)
class Statements:
    """Each statement with its location, ordered by file, then by line."""

    rules: Mapping[Rule, Location] = field(default_factory=dict)
    links: Mapping[Link, Location] = field(default_factory=dict)
    duplicates: tuple[tuple[str, Location, Location], ...] = ()
    """Repeated lines: the text, its location, and the location of its first occurrence."""


class _InvalidLine(Exception):
    """The message is the reason."""


def parse_statements(
    folder: Path, contents: Mapping[Path, bytes], yield_control: Callable[[], None]
) -> Statements:
    """Parse the files in order; a repeated statement counts once. Raises InvalidPolicy."""
    rules: dict[Rule, Location] = {}
    links: dict[Link, Location] = {}
    duplicates = []
    faults = []
    parser = _StatementParser()
    for file, content in contents.items():
        statement_count = 0
        lines = numbered_lines(decode(file, content))
        for statement_count, (line_number, line) in enumerate(lines, start=1):  # noqa: B007  # counts
            yield_control()
            location = (file.name, line_number)
            try:
                columns = _parse_columns(line)
                if columns[0] == "p":
                    rule = parser.parse_rule(columns)
                    first = rules.setdefault(rule, location)
                else:
                    link = parser.parse_link(columns)
                    first = links.setdefault(link, location)
            except _InvalidLine as error:
                faults.append(Fault(file, line_number, str(error)))
                continue
            if first is not location:
                duplicates.append((line, location, first))
        if not statement_count:
            # More likely truncated while being written than intended: its denials would be lost.
            reason = "the file contains no statements; delete it if that is intended"
            faults.append(Fault(file, None, reason))
    if not rules and not faults:
        reason = "no .csv file contains a rule (p, …): every operation would be denied"
        faults.append(Fault(folder, None, reason))
    if faults:
        raise InvalidPolicy(*faults[:_MAX_FAULTS])
    return Statements(rules, links, tuple(duplicates))


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with its number, without blank lines and comments."""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if line and not line.startswith("#"):
            yield number, line


def split_columns(line: str) -> list[str]:
    """Return the columns of one line. Raises csv.Error."""
    if '"' not in line:
        return [column.strip() for column in line.split(",")]
    # One reader per line: an unclosed quotation mark must not extend over the next lines.
    columns = next(csv.reader([line], skipinitialspace=True, strict=True))
    return [column.strip() for column in columns]


def _parse_columns(line: str) -> list[str]:
    try:
        columns = split_columns(line)
    except csv.Error as error:
        raise _InvalidLine(f"invalid CSV: {error}") from None
    if columns[0] not in {"p", "g"}:
        raise _InvalidLine(
            f"a line must start with p (a rule) or g (a role inheritance), not {columns[0]!r}"
        )
    return columns


class _StatementParser:
    """Converts columns to statements; a name that has been validated is not validated again."""

    def __init__(self) -> None:
        self._roles: set[str] = set()
        self._accounts: set[str] = set()
        self._operations: set[str] = set()

    def parse_rule(self, columns: list[str]) -> Rule:
        match columns:
            case ["p", role, account, operation, effect]:
                scope = "any"
            case ["p", role, account, operation, effect, scope]:
                pass
            case _:
                raise _InvalidLine(
                    f"{len(columns)} columns, expected 5 or 6: p, role, account or *, "
                    "operation or *, allow or deny, optionally own or any"
                )
        _validate_name(self._roles, _ROLE, role, "role")
        _validate_name(self._accounts, _ACCOUNT, account, "account (a lower-case UUID, or *)")
        _validate_name(
            self._operations,
            _OPERATION,
            operation,
            "operation (lower-case letters, digits and _, or *)",
        )
        if effect not in EFFECTS:
            raise _InvalidLine(f"unknown effect {effect!r}: expected allow or deny")
        if scope not in SCOPES:
            raise _InvalidLine(f"unknown scope {scope!r}: expected own or any")
        return role, account, operation, effect, scope

    def parse_link(self, columns: list[str]) -> Link:
        match columns:
            case ["g", role, inherited]:
                _validate_name(self._roles, _ROLE, role, "role")
                _validate_name(self._roles, _ROLE, inherited, "role")
                return role, inherited
        raise _InvalidLine(f"{len(columns)} columns, expected 3: g, role, inherited role")


def _validate_name(valid: set[str], pattern: re.Pattern[str], name: str, kind: str) -> None:
    if name not in valid:
        if not pattern.fullmatch(name):
            raise _InvalidLine(f"{name!r} is not a valid {kind}")
        valid.add(name)
