"""Warnings about a valid policy: statements that probably do not mean what was intended."""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from batchd.plugins.casbin.policy import ANY_OTHER_ACCOUNT, Policy
from batchd.plugins.casbin.statements import ANY, Location, Rule, format_rule

UNRESTRICTED_OPERATION = "who_am_i"
"""Requires no permission."""


class Finding(NamedTuple):
    location: Location | None
    reason: str


def lint(policy: Policy, operations: Iterable[str]) -> list[Finding]:
    """Return the findings in the order of the files; `operations` are the known ones."""
    findings = [
        *_unknown_operations(policy),
        *_duplicate_lines(policy),
        *_rules_without_effect(policy),
        *_roles_without_rules(policy),
    ]
    findings.sort(key=lambda finding: finding.location or ("", 0))
    return [*findings, *_operations_without_roles(policy, operations)]


def _unknown_operations(policy: Policy) -> Iterator[Finding]:
    for unknown in policy.unknown_operations:
        yield Finding(unknown.location, f"{unknown.reason}, unless it is declared later")


def _duplicate_lines(policy: Policy) -> Iterator[Finding]:
    for text, location, (file, line) in policy.statements.duplicates:
        yield Finding(location, f"'{text}' duplicates {file}:{line}")


def _rules_without_effect(policy: Policy) -> Iterator[Finding]:
    for rule, location in policy.statements.rules.items():
        _, _, operation, effect, scope = rule
        if operation == UNRESTRICTED_OPERATION:
            reason = f"{operation} requires no permission"
            yield Finding(location, f"'{format_rule(rule)}' has no effect: {reason}")
        elif (other := _covering_rule(policy, rule)) is not None:
            file, line = policy.statements.rules[other]
            relation = "overruled" if other[3] != effect else "covered"
            reason = f"{relation} by {file}:{line}: {format_rule(other)}"
            yield Finding(location, f"'{format_rule(rule)}' has no effect: {reason}")
        elif scope == "own" and operation != ANY and operation not in policy.owned_operations:
            reason = f"{operation} does not act on an existing batch or upload"
            yield Finding(location, f"'own' has no effect in '{format_rule(rule)}': {reason}")


def _covering_rule(policy: Policy, rule: Rule) -> Rule | None:
    """Return another rule that decides every case that this one matches.

    Rules are compared one by one: several rules that cover this one only together are not detected.
    """
    role, account, operation, effect, scope = rule
    rules = policy.statements.rules
    for other_effect in dict.fromkeys(("deny", effect)):  # an overruling rule before an equal one
        keys = product(
            policy.effective_roles(role),
            (account, ANY),
            (operation, ANY),
            (other_effect,),
            (scope, "any"),
        )
        for key in keys:
            if key != rule and key in rules:
                return key
    return None


def _roles_without_rules(policy: Policy) -> Iterator[Finding]:
    first: dict[str, Location] = {}
    for link, location in policy.statements.links.items():
        for role in link:
            first.setdefault(role, location)
    for role, location in first.items():
        if not any(policy.rules_by_role.get(name) for name in policy.effective_roles(role)):
            yield Finding(location, f"role {role} has no rules")


def _operations_without_roles(policy: Policy, operations: Iterable[str]) -> Iterator[Finding]:
    for operation in sorted(set(operations) - {UNRESTRICTED_OPERATION}):
        if not any(
            policy.enforce(
                rule[0], ANY_OTHER_ACCOUNT if rule[1] == ANY else rule[1], operation, own=own
            )[0]
            for rule in policy.statements.rules
            if rule[3] == "allow" and rule[2] in {ANY, operation}
            for own in (True, False)
        ):
            yield Finding(None, f"no role may perform {operation}")
