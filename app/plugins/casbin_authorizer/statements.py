"""What the .csv files of a policy say: every line checked before Casbin sees it."""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from batchd.plugins.casbin_authorizer.bad_policy import BadPolicy, decode

ANY = "*"
EFFECTS = ("allow", "deny")
NAME_LENGTH = 64
"""No name that a rule can give is longer."""

ROLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
OPERATION = re.compile(r"\*|[a-z_][a-z0-9_]{0,63}")
ACCOUNT = re.compile(r"\*|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Place(NamedTuple):
    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


class Rule(NamedTuple):
    """A line `p, …`; the columns are those of the policy definition in model.conf."""

    role: str
    account: str
    operation: str
    effect: str

    def __str__(self) -> str:
        return ", ".join(("p", *self))


class Link(NamedTuple):
    """A line `g, …`: `role` has the rules of `inherited` as well."""

    role: str
    inherited: str


@dataclass(frozen=True, slots=True)
class Statements:
    """Each statement and where it stands, first in the order of the files, then of the lines."""

    rules: Mapping[Rule, Place] = field(default_factory=dict)
    links: Mapping[Link, Place] = field(default_factory=dict)


def parse_statements(contents: Mapping[Path, bytes]) -> Statements:
    """Parse the files in the order given; a repeated statement counts once. Raises BadPolicy."""
    rules: dict[Rule, Place] = {}
    links: dict[Link, Place] = {}
    for file, content in contents.items():
        number = 0
        for place, columns in _lines(file, decode(file, content)):
            number += 1
            match _parse(place, columns):
                case Rule() as rule:
                    rules.setdefault(rule, place)
                case Link() as link:
                    links.setdefault(link, place)
        if not number:
            # More likely cut off while it was written than meant: its denials would be gone.
            raise BadPolicy(
                file, None, "there is no statement in it; delete the file if it is meant"
            )
    return Statements(rules, links)


def _lines(file: Path, text: str) -> Iterator[tuple[Place, list[str]]]:
    """Split each line that is neither blank nor a comment into its columns."""
    # One reader a line: a quotation mark left open must not swallow the lines after it.
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if line and not line.startswith("#"):
            try:
                columns = next(csv.reader([line], skipinitialspace=True, strict=True))
            except csv.Error as error:
                raise BadPolicy(file, number, f"not a line of CSV: {error}") from None
            yield Place(file, number), [column.strip() for column in columns]


def _parse(place: Place, columns: list[str]) -> Rule | Link:
    match columns:
        case ["p", role, account, operation, effect]:
            _check(place, ROLE, role, "a role")
            _check(place, ACCOUNT, account, "an account (a UUID in lower case, or *)")
            _check(
                place, OPERATION, operation, "an operation (lower-case letters, digits, _; or *)"
            )
            if effect not in EFFECTS:
                raise BadPolicy(*place, f"unknown effect {effect!r}: allow or deny")
            return Rule(role, account, operation, effect)
        case ["g", role, inherited]:
            _check(place, ROLE, role, "a role")
            _check(place, ROLE, inherited, "a role")
            return Link(role, inherited)
        case ["p", *_]:
            form = "5 columns: p, role, account or *, operation or *, allow or deny"
        case ["g", *_]:
            form = "3 columns: g, role, inherited role"
        case _:
            raise BadPolicy(
                *place, f"a line begins with p (a rule) or g (a role), not {columns[0]!r}"
            )
    raise BadPolicy(*place, f"{len(columns)} columns where there must be {form}")


def _check(place: Place, pattern: re.Pattern[str], name: str, what: str) -> None:
    if not pattern.fullmatch(name):
        raise BadPolicy(*place, f"{name!r} is not {what}")
