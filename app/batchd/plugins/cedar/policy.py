"""One state of the Cedar files: its revision, and the decisions that Cedar makes with it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cedarpy

from batchd.domain.ids import AccountId
from batchd.domain.permission import Decision

CALLER = {"type": "User", "id": "caller"}
OTHER_USER = {"type": "User", "id": "another"}
"""Policies see whether the caller owns a resource, but not who the caller is: decisions are cached
by role and account, so no policy may distinguish single users."""
_RESOURCE = {"type": "Resource", "id": "resource"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CedarPolicy:
    """Immutable, so that a decision holds for as long as the policy is in effect."""

    revision: str
    policies: cedarpy.PolicySet
    inherited: Mapping[str, tuple[str, ...]]
    """Each role with the roles that it inherits from directly."""

    def __str__(self) -> str:
        return f"{len(self.policies)} Cedar policies"

    def decide(self, role: str, account: AccountId, operation: str, *, own: bool) -> Decision:
        result = cedarpy.is_authorized(
            {
                "principal": CALLER,
                "action": {"type": "Action", "id": operation},
                "resource": _RESOURCE,
                "context": {},
            },
            self.policies,
            json.dumps(self._entities(role, account, own=own)),
        )
        if result.diagnostics.errors:
            # The policy whose evaluation failed might have forbidden the operation.
            raise RuntimeError("; ".join(map(str, result.diagnostics.errors)))
        rules = sorted(result.diagnostics.reasons)
        return Decision(
            allowed=result.allowed,
            revision=self.revision,
            rule=", ".join(rules) or None,
        )

    def _entities(self, role: str, account: AccountId, *, own: bool) -> list[dict[str, object]]:
        account_entity = {"__entity": {"type": "Account", "id": str(account)}}
        owner = {"__entity": CALLER if own else OTHER_USER}
        roles = self.effective_roles(role)
        return [
            _entity(CALLER, {"account": account_entity}, parents=[role]),
            _entity(OTHER_USER, {"account": account_entity}),
            _entity(_RESOURCE, {"account": account_entity, "owner": owner}),
            *(role_entity(name, self.inherited.get(name, ())) for name in roles),
        ]

    def effective_roles(self, role: str) -> tuple[str, ...]:
        """Return the role and all roles that it inherits from, nearest first."""
        roles = dict.fromkeys([role])
        level = [role]
        while level:
            next_level = [parent for name in level for parent in self.inherited.get(name, ())]
            level = [parent for parent in next_level if parent not in roles]
            roles |= dict.fromkeys(level)
        return tuple(roles)


def role_entity(role: str, inherited: Iterable[str]) -> dict[str, object]:
    """Return a role as a Cedar entity, whose parents are the roles that it inherits from."""
    return _entity({"type": "Role", "id": role}, {}, parents=inherited)


def _entity(
    uid: Mapping[str, str],
    attributes: Mapping[str, object],
    parents: Iterable[str] = (),
) -> dict[str, object]:
    return {
        "uid": uid,
        "attrs": attributes,
        "parents": [{"type": "Role", "id": role} for role in parents],
    }
