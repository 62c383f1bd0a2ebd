"""The operations that a policy may name, and the check for names that are unknown.

A `deny` for a misspelt operation denies nothing, so a policy with an unknown name is refused. Where
operations may come and go at run time (operations.toml, another operation source), an unknown name
may be defined a minute later or have been removed a minute ago: it is accepted, because a policy
must neither wait for another file nor become invalid with it. Likely misspellings are logged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from batchd.plugins.casbin.statements import ANY, Location, Rule, Statements

_MIN_SIMILARITY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOperations:
    names: frozenset[str]
    owned: frozenset[str]
    """Those of them that act on batches or uploads, which belong to a user."""
    others_possible: bool
    """Whether operations with other names may be defined at run time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownOperation:
    """A rule that names an unknown operation."""

    rule: Rule
    location: Location
    suggestion: str | None
    """A known operation with a similar name."""

    @property
    def reason(self) -> str:
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"unknown operation {self.rule[2]}{hint}"


def find_unknown_operations(
    statements: Statements, known_operations: KnownOperations, yield_control: Callable[[], None]
) -> list[UnknownOperation]:
    """Return the first rule for each operation that is unknown."""
    names = known_operations.names
    unknown: dict[str, UnknownOperation] = {}
    for rule, location in statements.rules.items():
        yield_control()
        operation = rule[2]
        if operation != ANY and operation not in names and operation not in unknown:
            similar = get_close_matches(operation, sorted(names), n=1, cutoff=_MIN_SIMILARITY)
            unknown[operation] = UnknownOperation(
                rule=rule, location=location, suggestion=similar[0] if similar else None
            )
    return list(unknown.values())
