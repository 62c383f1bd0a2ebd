"""Who may do what: the port that an authorizer implements, and the question it answers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias
from uuid import UUID

from batchd.domain.ids import AccountId, UserId
from batchd.domain.users import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What the check of a permission has to know of the operation of that name."""

    name: str
    owned: bool
    """Whether it acts on batches or uploads, which belong to the user that created them."""
    read_only: bool
    """Whether it changes nothing: then only denials are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The question an authorizer answers: may this caller perform this operation?"""

    caller: Caller
    operation: str
    owner: UserId | None = None
    """Who made the batch (or the upload) that it is about; None: it is about none that is there.

    The caller, or OTHER_USER for whoever else it may be: the answer counts for all of the account's
    that are not the caller's, a list of them included.
    """

    @property
    def own(self) -> bool:
        """Whether it is about nothing that belongs to somebody else."""
        return self.owner is None or self.owner == self.caller.user


OTHER_USER = UserId(UUID(int=0))
"""Stands for every user that is not the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    allowed: bool
    revision: str
    """Names the state of the policy that made the decision: a hash of its content."""
    rule: str | None
    """The rule that decided, for people; None where no rule matched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerFilter:
    """Which rows a query may return, by the user that owns them. Without a user: all of them."""

    only: UserId | None = None
    exclude: UserId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a role is allowed, or denied, in one breath."""

    effect: Literal["allow", "deny"]
    actions: tuple[str, ...]
    """Names of operations; * is all of them."""
    account: str
    """Where it holds; * is every account."""
    scope: Literal["any", "own"]
    """On whose batches: those of the whole account, or those that the caller made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    role: str
    inherits: tuple[str, ...]
    """OwnershipScope statements it has as well, near ones first; they are among `statements`."""
    statements: tuple[Statement, ...]


class Authorizer(Protocol):
    """Decides by a policy. No matching rule is a denial."""

    @property
    def revision(self) -> str | None:
        """Name the policy in force, as its decisions do.

        By that it promises: as long as this stays the same, a decision depends on nothing else but
        the role, the account, the operation and `Access.own`, and may be remembered. None: ask
        every time.
        """
        ...

    @property
    def current(self) -> bool:
        """Whether the policy in force is the one that is kept where policies are kept."""
        ...

    async def decide(self, access: Access) -> Decision:
        """Answer within two seconds. An exception, or no answer, denies."""
        ...

    async def find_roles(self, account: AccountId, role: str | None = None) -> Sequence[Role]:
        """Return the roles that mean something in this account, or the one of this name.

        What holds in other accounts only is left out.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizerContext:
    """What the factory of an authorizer gets."""

    environment: Mapping[str, str]
    """The process's variables without the core's own: an authorizer reads its settings from it."""
    operations: frozenset[str]
    """The operations that are there as long as the process runs: its API's and its plugins'."""
    owned_operations: frozenset[str]
    """Those of them that act on batches or uploads, which belong to a user."""
    declared_operations: frozenset[str]
    """Those that sources declare right now, such as a file of HTTP operations; they may change."""
    more_operations: bool
    """Whether others come and go: a name that is not among these may be one of theirs."""


AuthorizerFactory: TypeAlias = Callable[
    [AuthorizerContext], AbstractAsyncContextManager[Authorizer]
]
"""What an entry point of the group `batchd.authorizers` names."""
