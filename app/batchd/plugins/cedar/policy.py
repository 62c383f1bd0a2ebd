"""One state of the Cedar files: its revision, and the decisions that Cedar makes by it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cedarpy

from batchd.domain.ids import AccountId
from batchd.domain.permission import Decision

CALLER = {"type": "User", "id": "caller"}
OTHER_USER = {"type": "User", "id": "another"}
"""Policies see whether something is the caller's, but not who that is: decisions are remembered by
role and account, so no policy may tell one user from another."""
_RESOURCE = {"type": "Resource", "id": "it"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CedarPolicy:
    """Never changes, so that a decision once made holds as long as the policy is in force."""

    revision: str
    policies: cedarpy.PolicySet
    inherited: Mapping[str, tuple[str, ...]]
    """The roles, and those whose policies they have as well."""

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
            # What a policy that fails would have said is not known: perhaps it forbids.
            raise RuntimeError("; ".join(map(str, result.diagnostics.errors)))
        rules = sorted(result.diagnostics.reasons)
        return Decision(
            allowed=result.allowed,
            revision=self.revision,
            rule=", ".join(rules) or None,
        )

    def _entities(self, role: str, account: AccountId, *, own: bool) -> list[dict[str, object]]:
        where = {"__entity": {"type": "Account", "id": str(account)}}
        owner = {"__entity": CALLER if own else OTHER_USER}
        return [
            _entity(CALLER, {"account": where}, parents=[role]),
            _entity(OTHER_USER, {"account": where}),
            _entity(_RESOURCE, {"account": where, "owner": owner}),
            *(role_entity(name, self.inherited.get(name, ())) for name in self.lineage(role)),
        ]

    def lineage(self, role: str) -> tuple[str, ...]:
        """Return the role and those whose policies it has as well, near ones first."""
        found = dict.fromkeys([role])
        nearest = [role]
        while nearest:
            further = [other for name in nearest for other in self.inherited.get(name, ())]
            nearest = [other for other in further if other not in found]
            found |= dict.fromkeys(nearest)
        return tuple(found)


def role_entity(role: str, inherited: Iterable[str]) -> dict[str, object]:
    """Return a role as Cedar knows it: within those whose policies it has as well."""
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
