"""The permission check: the first thing that every service does."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from uuid import UUID

from batchd.domain.errors import AccessForbidden, BatchdError, ProcessingTimeout
from batchd.domain.ids import AccountId, UserId
from batchd.domain.permission import OTHER_USER, OWNED, Access, Authorizer, Decision
from batchd.domain.users import Caller
from batchd.services import audit

logger = logging.getLogger(__name__)

MAX_CACHED = 100_000
_PATIENCE_S = 2.0
_TRIES = 3


class OwnershipScope(Enum):
    """Which batches of its account a caller has to do with."""

    ALL = "all"
    OWN = "own"
    OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What was decided about an operation: on what is the caller's own, and on what is not.

    It tells no caller from another of the same role and account, so it can be remembered.
    """

    operation: str
    own: Decision
    """Also where nothing is there yet that could belong to anybody."""
    others: Decision
    allowed: bool
    whose: OwnershipScope

    def on(self, caller: Caller, owner: UserId) -> Decision:
        return self.own if owner == caller.user else self.others

    @property
    def decision(self) -> Decision:
        """What let it through, or not, before it was known whose batch it is about."""
        return self.others if self.whose is OwnershipScope.OTHERS else self.own

    def reads(
        self,
        caller: Caller,
        owner: UserId,
        *,
        batch: UUID | None = None,
        handler: UUID | None = None,
    ) -> bool:
        """Return whether it covers what is the owner's; if not, it answers as if not there."""
        if self.whose is OwnershipScope.ALL:
            return True
        decision = self.on(caller, owner)
        if not decision.allowed:
            audit.record(caller, self.operation, decision, batch=batch, handler=handler)
        return decision.allowed

    def changes(
        self,
        caller: Caller,
        owner: UserId,
        *,
        batch: UUID | None = None,
        handler: UUID | None = None,
    ) -> bool:
        """Like `reads`, for what changes something: a permission is recorded as well."""
        decision = self.on(caller, owner)
        audit.record(caller, self.operation, decision, batch=batch, handler=handler)
        return decision.allowed


class PermissionChecker:
    """Asks the authorizer. What it does not clearly allow is denied.

    Decisions are remembered by (revision, role, account, operation), those of one revision only.
    They are looked up without an await, so that a permission which is known costs the event loop
    neither a timer nor a switch of tasks. This is here and not in a plugin, because it is the same
    for every authorizer that names its revision; one that does not is asked each time.
    """

    def __init__(self, authorizer: Authorizer, *, patience_s: float = _PATIENCE_S) -> None:
        self._authorizer = authorizer
        self._patience_s = patience_s
        self._revision: str | None = None
        self._grants: dict[tuple[str, AccountId, str], Grant] = {}

    async def require(
        self, caller: Caller, operation: str, form: Callable[[], object] | None = None
    ) -> Grant:
        """Raise AccessForbidden unless the role may perform the operation on anything at all.

        What is not the caller's own is a matter of the grant, once it is known whose it is. `form`
        tells what a refused request was about, for the record. An authorizer that fails, or does
        not answer in time, raises ProcessingTimeout.
        """
        grant = self.remembered(caller, operation) or await self._ask(caller, operation, form)
        if grant.allowed:
            return grant
        audit.record(caller, operation, grant.decision, **_subject(form))
        raise AccessForbidden(
            f"The role '{caller.role}' may not perform '{operation}'. "
            "Ask whoever maintains the policies for a statement that allows it."
        )

    def remembered(self, caller: Caller, operation: str) -> Grant | None:
        """Return what was decided before by the policy that is in force now."""
        if self._authorizer.revision != self._revision:
            return None
        return self._grants.get((caller.role, caller.account, operation))

    async def _ask(
        self, caller: Caller, operation: str, form: Callable[[], object] | None
    ) -> Grant:
        try:
            async with asyncio.timeout(self._patience_s):
                grant = await self._decide(caller, operation)
        except Exception as error:
            logger.exception("the authorizer gave no decision on %s", operation)
            audit.record(caller, operation, None, **_subject(form))
            raise ProcessingTimeout(
                "The permission could not be checked. Try again in a moment."
            ) from error
        self._remember(caller, operation, grant)
        return grant

    async def _decide(self, caller: Caller, operation: str) -> Grant:
        for _ in range(_TRIES):
            owner = caller.user if operation in OWNED else None
            own = await self._question(Access(caller=caller, operation=operation, owner=owner))
            if owner is None:
                return _grant(operation, own, own)
            others = await self._question(
                Access(caller=caller, operation=operation, owner=OTHER_USER)
            )
            if own.revision == others.revision:
                return _grant(operation, own, others)
        # Half by one policy and half by another is no decision.
        raise RuntimeError(f"the policy changed {_TRIES} times while it was asked")

    async def _question(self, access: Access) -> Decision:
        decision = await self._authorizer.decide(access)
        # A plugin may be anybody's: what is not exactly True is no permission.
        return replace(decision, allowed=decision.allowed is True)

    def _remember(self, caller: Caller, operation: str, grant: Grant) -> None:
        revision = self._authorizer.revision
        if revision is None or revision != grant.own.revision:
            return
        if revision != self._revision:
            self._grants = {}
            self._revision = revision
        if len(self._grants) >= MAX_CACHED:
            del self._grants[next(iter(self._grants))]
        self._grants[caller.role, caller.account, operation] = grant


def _grant(operation: str, own: Decision, others: Decision) -> Grant:
    whose = OwnershipScope.ALL
    if own.allowed != others.allowed:
        whose = OwnershipScope.OWN if own.allowed else OwnershipScope.OTHERS
    return Grant(
        operation=operation,
        own=own,
        others=others,
        allowed=own.allowed or others.allowed,
        whose=whose,
    )


def _subject(form: Callable[[], object] | None) -> dict[str, UUID | None]:
    """Return what a request is about, if its form says so."""
    try:
        wanted = None if form is None else form()
    except BatchdError:
        wanted = None
    return {name: getattr(wanted, name, None) for name in ("batch", "handler")}
