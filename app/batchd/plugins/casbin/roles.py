"""The permissions of each role, as statements."""

from collections.abc import Iterator
from uuid import UUID

from batchd.domain.permission import Role, Statement
from batchd.plugins.casbin.policy import Policy
from batchd.plugins.casbin.statements import ANY


def find_roles(policy: Policy, account: UUID | None, role: str | None = None) -> Iterator[Role]:
    """Yield the roles with rules that apply to the account, or only the role of this name.

    None as the account stands for all accounts. Rules of other accounts are left out, and so are
    roles with no other rules: their names could reveal other customers.
    """
    account_text = None if account is None else str(account)
    for name in policy.roles if role is None else [role]:
        effective_roles = policy.effective_roles(name)
        statements = _statements(policy, effective_roles, account_text)
        if statements:
            inherits = tuple(
                inherited
                for inherited in effective_roles[1:]
                if _statements(policy, (inherited,), account_text)
            )
            yield Role(role=name, inherits=inherits, statements=statements)


def _statements(
    policy: Policy, roles: tuple[str, ...], account: str | None
) -> tuple[Statement, ...]:
    """Group the rules of these roles by effect, account and scope; denials come first."""
    groups: dict[tuple[str, str, str], dict[str, None]] = {}
    for role in roles:
        for _, rule_account, operation, effect, scope in policy.rules_by_role.get(role, ()):
            if account is None or rule_account in {ANY, account}:
                groups.setdefault((effect, rule_account, scope), {})[operation] = None
    return tuple(
        Statement(
            effect="deny" if effect == "deny" else "allow",
            actions=tuple(actions),
            account=rule_account,
            scope="own" if scope == "own" else "any",
        )
        for (effect, rule_account, scope), actions in sorted(
            groups.items(), key=lambda group: group[0][0], reverse=True
        )
    )
