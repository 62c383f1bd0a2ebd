"""What each role may do, as statements."""

from collections.abc import Iterator
from uuid import UUID

from batchd.domain.permission import Role, Statement
from batchd.plugins.casbin.policy import Policy
from batchd.plugins.casbin.statements import ANY


def find_roles(policy: Policy, account: UUID | None, role: str | None = None) -> Iterator[Role]:
    """Give the roles that mean something in the account, or the one of this name.

    Without an account, those of every account. Rules of other accounts are left out, and so are
    roles that have no other rules: their names may tell who else is a customer.
    """
    where = None if account is None else str(account)
    for name in policy.roles if role is None else [role]:
        lineage = policy.lineage(name)
        statements = statements_of(policy, lineage, where)
        if statements:
            inherits = tuple(
                other for other in lineage[1:] if statements_of(policy, (other,), where)
            )
            yield Role(role=name, inherits=inherits, statements=statements)


def statements_of(
    policy: Policy, lineage: tuple[str, ...], account: str | None
) -> tuple[Statement, ...]:
    """Put the rules of these roles together: what is denied, then what is allowed."""
    groups: dict[tuple[str, str, str], dict[str, None]] = {}
    for role in lineage:
        for _, where, operation, effect, scope in policy.rules_by_role.get(role, ()):
            if account is None or where in {ANY, account}:
                groups.setdefault((effect, where, scope), {})[operation] = None
    return tuple(
        Statement(
            effect="deny" if effect == "deny" else "allow",
            actions=tuple(actions),
            account=where,
            scope="own" if scope == "own" else "any",
        )
        for (effect, where, scope), actions in sorted(
            groups.items(), key=lambda group: group[0][0], reverse=True
        )
    )
