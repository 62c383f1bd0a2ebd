"""Permissions: the port that an authorizer implements, and the question that it answers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias
from uuid import UUID

from batchd.domain.ids import AccountId, UserId
from batchd.domain.users import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What the permission check needs to know about the operation of the same name."""

    name: str
    owned: bool
    """Whether it acts on batches or uploads, which belong to the user that created them."""
    read_only: bool
    """Whether it changes nothing, so that only denials are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The question an authorizer answers: may this caller perform this operation?"""

    caller: Caller
    operation: str
    owner: UserId | None = None
    """The owner of the batch or upload in question; None if there is no existing one.

    The caller, or OTHER_USER for anyone else: the decision applies to all batches and uploads of
    the account that are not the caller's, and to lists of them.
    """

    @property
    def own(self) -> bool:
        """Whether nothing that belongs to another user is concerned."""
        return self.owner is None or self.owner == self.caller.user


OTHER_USER = UserId(UUID(int=0))
"""Stands for every user that is not the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    allowed: bool
    revision: str
    """The policy revision of the decision: a hash of the policy's content."""
    rule: str | None
    """The rule that decided, for people; None if no rule matched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerFilter:
    """Which rows a query may return, by their owner. Without a user: all of them."""

    only: UserId | None = None
    exclude: UserId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Rules of one role with the same effect, account and scope."""

    effect: Literal["allow", "deny"]
    actions: tuple[str, ...]
    """Names of operations; * means all of them."""
    account: str
    """The account in which it applies; * means every account."""
    scope: Literal["any", "own"]
    """Which batches it applies to: all of the account, or those that the caller created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    role: str
    inherits: tuple[str, ...]
    """The roles it inherits from, nearest first; their statements are among `statements`."""
    statements: tuple[Statement, ...]


class Authorizer(Protocol):
    """Decides by a policy. No matching rule is a denial."""

    @property
    def revision(self) -> str | None:
        """Return the revision of the active policy, which its decisions carry.

        As long as this stays the same, a decision must depend on nothing but the role, the account,
        the operation and `Access.own`: it may be cached. None means that decisions are not cached.
        """
        ...

    @property
    def current(self) -> bool:
        """Whether the active policy is the one that is stored, on disk for example."""
        ...

    async def decide(self, access: Access) -> Decision:
        """Decide within two seconds. An exception or a timeout denies."""
        ...

    async def find_roles(self, account: AccountId, role: str | None = None) -> Sequence[Role]:
        """Return the roles with rules for this account, or the one of this name.

        Rules that apply only in other accounts are omitted.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizerContext:
    """What the factory of an authorizer gets."""

    environment: Mapping[str, str]
    """The process's variables without the core's own: an authorizer reads its settings from it."""
    operations: frozenset[str]
    """The operations that exist as long as the process runs: its API's and its plugins'."""
    owned_operations: frozenset[str]
    """Those of them that act on batches or uploads, which belong to a user."""
    declared_operations: frozenset[str]
    """Those that sources declare at present, such as a file of HTTP operations; they may change."""
    more_operations: bool
    """Whether sources may declare further operations later: an unknown name may be valid."""


AuthorizerFactory: TypeAlias = Callable[
    [AuthorizerContext], AbstractAsyncContextManager[Authorizer]
]
"""What an entry point of the group `batchd.authorizers` names."""
