"""The permission check: the first thing that every service does."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from uuid import UUID

from batchd.domain.commands import Parsed
from batchd.domain.errors import AccessForbidden, ProcessingTimeout
from batchd.domain.ids import AccountId
from batchd.domain.permission import (
    OTHER_USER,
    Access,
    Authorizer,
    Decision,
    OwnerFilter,
    Permission,
)
from batchd.domain.users import Caller
from batchd.services import audit

logger = logging.getLogger(__name__)

MAX_CACHED = 100_000
_TIMEOUT_S = 2.0
_ATTEMPTS = 3


class OwnershipScope(Enum):
    """Whose batches and uploads of the account an operation may act on."""

    ALL = "all"
    OWN = "own"
    OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a policy decided about an operation, for a role in an account.

    It holds for every caller with that role, so it can be cached.
    """

    permission: Permission
    own: Decision
    """For the caller's own objects, and for operations without an existing object."""
    others: Decision
    """For objects of other users of the account."""
    scope: OwnershipScope

    @property
    def allowed(self) -> bool:
        """Whether the operation may be performed on anything at all."""
        return self.own.allowed or self.others.allowed

    @property
    def decision(self) -> Decision:
        """The decision that allowed the operation or, if nothing is allowed, that denied it."""
        return self.others if self.scope is OwnershipScope.OTHERS else self.own

    @property
    def denial(self) -> Decision:
        """The decision about objects outside the scope."""
        return self.own if self.scope is OwnershipScope.OTHERS else self.others

    def owner_filter(self, caller: Caller) -> OwnerFilter:
        """Return the condition under which a query may return a row to this caller."""
        match self.scope:
            case OwnershipScope.ALL:
                return OwnerFilter()
            case OwnershipScope.OWN:
                return OwnerFilter(only=caller.user)
            case OwnershipScope.OTHERS:
                return OwnerFilter(exclude=caller.user)

    def record(
        self,
        caller: Caller,
        *,
        exists: bool = True,
        batch: UUID | None = None,
        handler: UUID | None = None,
    ) -> None:
        """Write the audit record of the outcome, if it requires one.

        A permitted change does. So does a row that does not exist for a caller with a limited
        scope: rows outside the scope are never fetched, so it may be another user's.
        """
        if not exists:
            if self.scope is OwnershipScope.ALL:
                return
            decision = self.denial
        elif self.permission.read_only:
            return
        else:
            decision = self.decision
        audit.record(caller, self.permission.name, decision, batch=batch, handler=handler)


class PermissionChecker:
    """Queries the authorizer. Whatever it does not clearly allow is denied.

    Decisions are cached by (revision, role, account, operation), for one revision at a time. They
    are looked up without an await, so that a cached decision costs neither a timer nor a task
    switch. The cache is here and not in a plugin because it is the same for every authorizer that
    names its revision; one that does not is queried every time.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        permissions: Mapping[str, Permission],
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """`permissions` are those of the API's operations; others are of operations in batches."""
        self._authorizer = authorizer
        self._permissions = permissions
        self._timeout_s = timeout_s
        self._revision: str | None = None
        self._grants: dict[tuple[str, AccountId, str], Grant] = {}

    async def authorize(
        self, caller: Caller, operation: str, command: Parsed[object] = None
    ) -> Grant:
        """Return the grant, or record the denial of `command` and raise AccessForbidden.

        A role that may act on any rows passes; the grant's filter selects them.
        Raises ProcessingTimeout if the authorizer fails or does not answer in time.
        """
        grant = self.cached(caller, operation)
        if grant is None:
            grant = await self._request_decision(caller, operation, command)
        if not grant.allowed:
            audit.record(caller, operation, grant.decision, **_subject(command))
            raise AccessForbidden(
                f"The role '{caller.role}' may not perform '{operation}'. "
                "Ask whoever maintains the policies for a statement that allows it."
            )
        return grant

    async def is_allowed(self, caller: Caller, operation: str) -> bool:
        """Return whether `authorize` would succeed, without an audit record: nothing is done.

        Raises ProcessingTimeout as well.
        """
        grant = self.cached(caller, operation) or await self._request_decision(
            caller, operation, None
        )
        return grant.allowed

    def cached(self, caller: Caller, operation: str) -> Grant | None:
        """Return the cached grant of the active policy, if there is one."""
        if self._authorizer.revision != self._revision:
            return None
        return self._grants.get((caller.role, caller.account, operation))

    async def _request_decision(
        self, caller: Caller, operation: str, command: Parsed[object]
    ) -> Grant:
        permission = self._permissions.get(operation) or Permission(
            name=operation, owned=False, read_only=False
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                grant = await self._decide(caller, permission)
        except Exception as error:
            logger.exception("the authorizer gave no decision on %s", operation)
            audit.record(caller, operation, None, **_subject(command))
            raise ProcessingTimeout(
                "The permission could not be checked. Try again in a moment."
            ) from error
        self._cache(caller, grant)
        return grant

    async def _decide(self, caller: Caller, permission: Permission) -> Grant:
        operation = permission.name
        for _ in range(_ATTEMPTS):
            if not permission.owned:
                decision = await self._decide_access(Access(caller=caller, operation=operation))
                return _grant(permission, decision, decision)
            own = await self._decide_access(
                Access(caller=caller, operation=operation, owner=caller.user)
            )
            others = await self._decide_access(
                Access(caller=caller, operation=operation, owner=OTHER_USER)
            )
            if own.revision == others.revision:
                return _grant(permission, own, others)
        # A decision must not be made half by one policy and half by another.
        raise RuntimeError(f"the policy changed {_ATTEMPTS} times during one decision")

    async def _decide_access(self, access: Access) -> Decision:
        decision = await self._authorizer.decide(access)
        # A plugin may return any object: only True itself is a permission.
        return replace(decision, allowed=decision.allowed is True)

    def _cache(self, caller: Caller, grant: Grant) -> None:
        revision = self._authorizer.revision
        if revision is None or revision != grant.own.revision:
            return
        if revision != self._revision:
            self._grants = {}
            self._revision = revision
        if len(self._grants) >= MAX_CACHED:
            del self._grants[next(iter(self._grants))]
        self._grants[caller.role, caller.account, grant.permission.name] = grant


def _grant(permission: Permission, own: Decision, others: Decision) -> Grant:
    scope = OwnershipScope.ALL
    if own.allowed != others.allowed:
        scope = OwnershipScope.OWN if own.allowed else OwnershipScope.OTHERS
    return Grant(permission=permission, own=own, others=others, scope=scope)


def _subject(command: Parsed[object]) -> Mapping[str, UUID | None]:
    """Return the object of a command for its audit record; a malformed one names none."""
    return {name: getattr(command, name, None) for name in ("batch", "handler")}
