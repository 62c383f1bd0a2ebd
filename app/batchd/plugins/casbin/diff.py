"""Who gains and who loses what, when one policy takes the place of another."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchd.domain.permission import OWNED
from batchd.plugins.casbin.lint import FREE
from batchd.plugins.casbin.policy import NOWHERE, Policy
from batchd.plugins.casbin.statements import ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a role may, or may no longer, do; `account` is * for all that no rule names."""

    gains: bool
    role: str
    account: str
    operation: str
    batches: str
    """own, others or any."""
    rule: str | None
    """What decides now; None: nothing allows it any more."""


def compare(old: Policy, new: Policy, operations: Iterable[str]) -> list[Change]:
    """Ask both policies about every case that may have changed."""
    named = {rule[2] for policy in (old, new) for rule in policy.statements.rules}
    asked = sorted((set(operations) | named) - {ANY, FREE})
    return [
        change
        for role in _touched(old, new)
        for operation in asked
        for change in _changes(old, new, role, operation)
    ]


def _touched(old: Policy, new: Policy) -> list[str]:
    """Return the roles that have a rule, or an inheritance, which only one of the policies has."""
    rules = old.statements.rules.keys() ^ new.statements.rules.keys()
    links = old.statements.links.keys() ^ new.statements.links.keys()
    changed = {rule[0] for rule in rules} | {link[0] for link in links}
    roles = {*old.roles, *new.roles}
    return sorted(
        role for role in roles if not changed.isdisjoint((*old.lineage(role), *new.lineage(role)))
    )


def _changes(old: Policy, new: Policy, role: str, operation: str) -> Iterator[Change]:
    everywhere = _verdicts(old, new, role, ANY, operation)
    yield from _told(new, role, ANY, operation, everywhere)
    for account in _accounts(old, new, role):
        verdicts = _verdicts(old, new, role, account, operation)
        if verdicts != everywhere:
            yield from _told(new, role, account, operation, verdicts)


def _accounts(old: Policy, new: Policy, role: str) -> list[str]:
    """Return the accounts that the role has rules of its own for."""
    return sorted(
        {
            rule[1]
            for policy in (old, new)
            for other in policy.lineage(role)
            for rule in policy.rules_by_role.get(other, ())
        }
        - {ANY}
    )


_Verdicts = dict[bool, tuple[bool, bool]]
"""By whether it is about the caller's own: allowed before, allowed now."""


def _verdicts(old: Policy, new: Policy, role: str, account: str, operation: str) -> _Verdicts:
    where = NOWHERE if account == ANY else account
    owns = (True, False) if operation in OWNED else (True,)
    return {
        own: (
            old.enforce(role, where, operation, own=own)[0],
            new.enforce(role, where, operation, own=own)[0],
        )
        for own in owns
    }


def _told(
    new: Policy, role: str, account: str, operation: str, verdicts: _Verdicts
) -> Iterator[Change]:
    for gains in (True, False):
        changed = [own for own, verdict in verdicts.items() if verdict == (not gains, gains)]
        if not changed:
            continue
        where = NOWHERE if account == ANY else account
        batches = "any" if len(changed) == len(verdicts) else "own" if changed[0] else "others"
        yield Change(
            gains=gains,
            role=role,
            account=account,
            operation=operation,
            batches=batches,
            rule=new.decide(role, where, operation, own=changed[0]).rule,
        )
