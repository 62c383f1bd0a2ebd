"""The difference between two policies: which permissions each role gains and loses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from batchd.plugins.casbin.lint import UNRESTRICTED_OPERATION
from batchd.plugins.casbin.policy import ANY_OTHER_ACCOUNT, Policy
from batchd.plugins.casbin.statements import ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A permission that a role gains or loses; `account` is * for every account no rule names."""

    gains: bool
    role: str
    account: str
    operation: str
    batches: str
    """own, others or any."""
    rule: str | None
    """The rule that decides in the new policy; None if no rule allows the operation any more."""


def diff_policies(old: Policy, new: Policy, operations: Iterable[str]) -> list[Change]:
    """Compare the decisions of both policies in every case that may have changed."""
    named = {rule[2] for policy in (old, new) for rule in policy.statements.rules}
    compared = sorted((set(operations) | named) - {ANY, UNRESTRICTED_OPERATION})
    return [
        change
        for role in _affected_roles(old, new)
        for operation in compared
        for change in _changes(old, new, role, operation)
    ]


def _affected_roles(old: Policy, new: Policy) -> list[str]:
    """Return the roles with a rule or an inheritance that only one of the policies contains."""
    rules = old.statements.rules.keys() ^ new.statements.rules.keys()
    links = old.statements.links.keys() ^ new.statements.links.keys()
    changed = {rule[0] for rule in rules} | {link[0] for link in links}
    return sorted(
        role
        for role in {*old.roles, *new.roles}
        if not changed.isdisjoint((*old.effective_roles(role), *new.effective_roles(role)))
    )


def _changes(old: Policy, new: Policy, role: str, operation: str) -> Iterator[Change]:
    default = _decisions(old, new, role, ANY, operation)
    yield from _account_changes(new, role, ANY, operation, default)
    for account in _named_accounts(old, new, role):
        decisions = _decisions(old, new, role, account, operation)
        if decisions != default:
            yield from _account_changes(new, role, account, operation, decisions)


def _named_accounts(old: Policy, new: Policy, role: str) -> list[str]:
    """Return the accounts that rules of the role name."""
    return sorted(
        {
            rule[1]
            for policy in (old, new)
            for effective_role in policy.effective_roles(role)
            for rule in policy.rules_by_role.get(effective_role, ())
        }
        - {ANY}
    )


_Decisions = dict[bool, tuple[bool, bool]]
"""Allowed by the old policy and by the new one, keyed by `own`."""


def _decisions(old: Policy, new: Policy, role: str, account: str, operation: str) -> _Decisions:
    concrete_account = ANY_OTHER_ACCOUNT if account == ANY else account
    return {
        own: (
            old.enforce(role, concrete_account, operation, own=own)[0],
            new.enforce(role, concrete_account, operation, own=own)[0],
        )
        for own in ((True, False) if operation in new.owned_operations else (True,))
    }


def _account_changes(
    new: Policy, role: str, account: str, operation: str, decisions: _Decisions
) -> Iterator[Change]:
    concrete_account = ANY_OTHER_ACCOUNT if account == ANY else account
    for gains in (True, False):
        changed = [own for own, decision in decisions.items() if decision == (not gains, gains)]
        if not changed:
            continue
        batches = "any" if len(changed) == len(decisions) else "own" if changed[0] else "others"
        yield Change(
            gains=gains,
            role=role,
            account=account,
            operation=operation,
            batches=batches,
            rule=new.decide(role, concrete_account, operation, own=changed[0]).rule,
        )
