"""What each role may do, found by asking: Cedar's conditions can't be read as lists."""

from collections.abc import Iterable, Iterator
from typing import Literal

from batchd.domain.ids import AccountId
from batchd.domain.permission import Role, Statement
from batchd.plugins.cedar.policy import CedarPolicy


def find_roles(
    policy: CedarPolicy, account: AccountId, role: str | None, operations: Iterable[str]
) -> list[Role]:
    """Return the roles that may do something in the account, or the one of this name."""
    asked = sorted(operations)
    names = sorted(policy.inherited) if role is None else [role]
    roles = []
    for name in names:
        statements = tuple(_statements(policy, name, account, asked))
        if statements:
            inherits = tuple(
                other
                for other in policy.lineage(name)[1:]
                if any(_statements(policy, other, account, asked))
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
