"""Which operations a policy may name: one that does not exist is more likely a slip than meant.

`deny` for an operation that is misspelt denies nothing, so such a policy is refused. Where
operations come and go while everything runs (operations.toml, another source), a name that is not
known may be there in a minute, or may have been there until a minute ago: it is let pass, because a
policy must neither wait for another file nor fall with it. Those that look like a slip are logged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from batchd.plugins.casbin.statements import ANY, Place, Rule, Statements

_ALIKE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOperations:
    operations: frozenset[str]
    more: bool
    """Whether there may be others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A rule about an operation that is not known."""

    rule: Rule
    place: Place
    alike: str | None
    """The one that was meant, perhaps."""

    @property
    def reason(self) -> str:
        meant = f"; is {self.alike} meant?" if self.alike else ""
        return f"there is no operation {self.rule[2]}{meant}"


def find_unknown(
    statements: Statements, known: KnownOperations, breathe: Callable[[], None]
) -> list[Unknown]:
    """Return the first rule about each operation that is not known."""
    found: dict[str, Unknown] = {}
    for rule, place in statements.rules.items():
        breathe()
        operation = rule[2]
        if operation != ANY and operation not in known.operations and operation not in found:
            alike = get_close_matches(operation, sorted(known.operations), n=1, cutoff=_ALIKE)
            found[operation] = Unknown(rule=rule, place=place, alike=alike[0] if alike else None)
    return list(found.values())
