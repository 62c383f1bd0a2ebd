"""What is odd about a policy that could be in force: it may well mean something else than meant."""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from batchd.domain.permission import OWNED
from batchd.plugins.casbin.policy import NOWHERE, Policy
from batchd.plugins.casbin.statements import ANY, Place, Rule, show

FREE = "who_am_i"
"""Needs no permission."""


class Finding(NamedTuple):
    place: Place | None
    reason: str


def find_oddities(policy: Policy, operations: Iterable[str]) -> list[Finding]:
    """Return what to warn of; `operations` are those that there are."""
    found = [
        *_unknown_operations(policy),
        *_repeated_lines(policy),
        *_idle_rules(policy),
        *_roles_without_rules(policy),
    ]
    found.sort(key=lambda oddity: oddity.place or ("", 0))
    return [*found, *_operations_of_nobody(policy, operations)]


def _unknown_operations(policy: Policy) -> Iterator[Finding]:
    for one in policy.unknown:
        yield Finding(one.place, f"{one.reason}, unless it is declared later")


def _repeated_lines(policy: Policy) -> Iterator[Finding]:
    for text, place, (file, line) in policy.statements.repeated:
        yield Finding(place, f"'{text}' says what {file}:{line} has said")


def _idle_rules(policy: Policy) -> Iterator[Finding]:
    for rule, place in policy.statements.rules.items():
        role, _, operation, _, scope = rule
        if operation == FREE:
            yield Finding(place, f"'{show(rule)}' never decides: {FREE} needs no permission")
        elif (other := _covering(policy, rule)) is not None:
            file, line = policy.statements.rules[other]
            verb = "overruled" if other[3] != rule[3] else "covered"
            reason = f"'{show(rule)}' never decides: {verb} by {file}:{line}: {show(other)}"
            yield Finding(place, reason)
        elif scope == "own" and operation != ANY and operation not in OWNED:
            reason = f"'own' says nothing here: {operation} is about nothing of anybody else's"
            yield Finding(place, f"{reason} ({role})")


def _covering(policy: Policy, rule: Rule) -> Rule | None:
    """Return another rule that decides all that this one could, for everybody who has this one.

    Single rules are compared: that several together may leave nothing to decide is not seen.
    """
    role, account, operation, effect, scope = rule
    rules = policy.statements.rules
    for by in dict.fromkeys(("deny", effect)):  # what overrules comes before what says the same
        keys = product(
            policy.lineage(role), (account, ANY), (operation, ANY), (by,), (scope, "any")
        )
        for key in keys:
            if key != rule and key in rules:
                return key
    return None


def _roles_without_rules(policy: Policy) -> Iterator[Finding]:
    first: dict[str, Place] = {}
    for link, place in policy.statements.links.items():
        for role in link:
            first.setdefault(role, place)
    for role, place in first.items():
        if not any(policy.rules_by_role.get(other) for other in policy.lineage(role)):
            yield Finding(place, f"the role {role} has no rules")


def _operations_of_nobody(policy: Policy, operations: Iterable[str]) -> Iterator[Finding]:
    for operation in sorted(set(operations) - {FREE}):
        if not any(
            policy.enforce(rule[0], NOWHERE if rule[1] == ANY else rule[1], operation, own=own)[0]
            for rule in policy.statements.rules
            if rule[3] == "allow" and rule[2] in {ANY, operation}
            for own in (True, False)
        ):
            yield Finding(None, f"nobody may perform {operation}")
