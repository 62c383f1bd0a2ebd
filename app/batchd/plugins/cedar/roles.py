"""The permissions of each role, found by evaluating the policy: Cedar's conditions are no lists."""

from collections.abc import Iterable, Iterator
from typing import Literal

from batchd.domain.ids import AccountId
from batchd.domain.permission import Role, Statement
from batchd.plugins.cedar.policy import CedarPolicy


def find_roles(
    policy: CedarPolicy, account: AccountId, role: str | None, operations: Iterable[str]
) -> list[Role]:
    """Return the roles with permissions in the account, or only the role of this name."""
    sorted_operations = sorted(operations)
    names = sorted(policy.inherited) if role is None else [role]
    roles = []
    for name in names:
        statements = tuple(_statements(policy, name, account, sorted_operations))
        if statements:
            inherits = tuple(
                inherited
                for inherited in policy.effective_roles(name)[1:]
                if any(_statements(policy, inherited, account, sorted_operations))
            )
            roles.append(Role(role=name, inherits=inherits, statements=statements))
    return roles


def _statements(
    policy: CedarPolicy, role: str, account: AccountId, operations: Iterable[str]
) -> Iterator[Statement]:
    allowed = {
        own: {
            operation
            for operation in operations
            if policy.decide(role, account, operation, own=own).allowed
        }
        for own in (True, False)
    }
    yield from _statement("deny", "own", account, allowed[False] - allowed[True])
    yield from _statement("allow", "own", account, allowed[True] - allowed[False])
    yield from _statement("allow", "any", account, allowed[False])


def _statement(
    effect: Literal["allow", "deny"],
    scope: Literal["any", "own"],
    account: AccountId,
    operations: set[str],
) -> Iterator[Statement]:
    if operations:
        actions = tuple(sorted(operations))
        yield Statement(effect=effect, actions=actions, account=str(account), scope=scope)
