"""What the .csv files of a policy say: every line checked before Casbin sees it."""

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

# Plain tuples of plain values, though names would be nicer: of those, and of those alone, Python's
# garbage collector lets go. While it goes through 30,000 others, every request waits.
Rule: TypeAlias = tuple[str, str, str, str, str]
"""A line `p, …`: role, account, operation, effect, scope, as model.conf defines it."""
Link: TypeAlias = tuple[str, str]
"""A line `g, …`: a role, and the one whose rules it has as well."""
Place: TypeAlias = tuple[str, int]
"""The name of a file, and a line."""

_ROLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_OPERATION = re.compile(r"\*|[a-z_][a-z0-9_]{0,63}")
_ACCOUNT = re.compile(r"\*|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOST_FAULTS = 100


def show(rule: Rule) -> str:
    """Return the line that says so."""
    *columns, scope = rule
    return ", ".join(("p", *columns) if scope == "any" else ("p", *rule))


@dataclass(frozen=True, slots=True)
class Statements:
    """Each statement and where it stands, first in the order of the files, then of the lines."""

    rules: Mapping[Rule, Place] = field(default_factory=dict)
    links: Mapping[Link, Place] = field(default_factory=dict)
    repeated: tuple[tuple[str, Place, Place], ...] = ()
    """Lines that say what another said before: the text, where, and where it was said first."""


class _Wrong(Exception):
    """What is wrong with a line."""


def parse_statements(
    folder: Path, contents: Mapping[Path, bytes], breathe: Callable[[], None]
) -> Statements:
    """Parse the files in order; a repeated statement counts once. Raises InvalidPolicy."""
    rules: dict[Rule, Place] = {}
    links: dict[Link, Place] = {}
    repeated = []
    faults = []
    names = _Names()
    for file, content in contents.items():
        number = 0
        for number, (line, text) in enumerate(numbered_lines(decode(file, content)), start=1):  # noqa: B007  # counts
            breathe()
            place = (file.name, line)
            try:
                columns = _columns(text)
                if columns[0] == "p":
                    rule = names.rule(columns)
                    first = rules.setdefault(rule, place)
                else:
                    link = names.link(columns)
                    first = links.setdefault(link, place)
            except _Wrong as wrong:
                faults.append(Fault(file, line, str(wrong)))
                continue
            if first is not place:
                repeated.append((text, place, first))
        if not number:
            # More likely cut off while it was written than meant: its denials would be gone.
            reason = "there is no statement in it; delete the file if it is meant"
            faults.append(Fault(file, None, reason))
    if not rules and not faults:
        reason = "no .csv file has a rule (p, …): nobody could do anything"
        faults.append(Fault(folder, None, reason))
    if faults:
        raise InvalidPolicy(*faults[:_MOST_FAULTS])
    return Statements(rules, links, tuple(repeated))


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Number the lines; blank ones and comments are left out."""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if line and not line.startswith("#"):
            yield number, line


def split(line: str) -> list[str]:
    """Return the columns of one line. Raises csv.Error."""
    if '"' not in line:
        return [column.strip() for column in line.split(",")]
    # One reader a line: a quotation mark left open must not swallow the lines after it.
    columns = next(csv.reader([line], skipinitialspace=True, strict=True))
    return [column.strip() for column in columns]


def _columns(line: str) -> list[str]:
    try:
        columns = split(line)
    except csv.Error as error:
        raise _Wrong(f"not a line of CSV: {error}") from None
    if columns[0] not in {"p", "g"}:
        raise _Wrong(f"a line begins with p (a rule) or g (a role), not {columns[0]!r}")
    return columns


class _Names:
    """Makes statements of columns; a name that was found right is not looked at again."""

    def __init__(self) -> None:
        self._roles: set[str] = set()
        self._accounts: set[str] = set()
        self._operations: set[str] = set()

    def rule(self, columns: list[str]) -> Rule:
        match columns:
            case ["p", role, account, operation, effect]:
                scope = "any"
            case ["p", role, account, operation, effect, scope]:
                pass
            case _:
                raise _Wrong(
                    f"{len(columns)} columns where there must be 5 or 6: p, role, account or *, "
                    "operation or *, allow or deny, and perhaps own or any"
                )
        _check(self._roles, _ROLE, role, "a role")
        _check(self._accounts, _ACCOUNT, account, "an account (a UUID in lower case, or *)")
        _check(
            self._operations,
            _OPERATION,
            operation,
            "an operation (lower-case letters, digits, _; or *)",
        )
        if effect not in EFFECTS:
            raise _Wrong(f"unknown effect {effect!r}: allow or deny")
        if scope not in SCOPES:
            raise _Wrong(f"unknown scope {scope!r}: own or any")
        return role, account, operation, effect, scope

    def link(self, columns: list[str]) -> Link:
        match columns:
            case ["g", role, inherited]:
                _check(self._roles, _ROLE, role, "a role")
                _check(self._roles, _ROLE, inherited, "a role")
                return role, inherited
        raise _Wrong(
            f"{len(columns)} columns where there must be 3 columns: g, role, inherited role"
        )


def _check(known: set[str], pattern: re.Pattern[str], name: str, what: str) -> None:
    if name not in known:
        if not pattern.fullmatch(name):
            raise _Wrong(f"{name!r} is not {what}")
        known.add(name)
