"""The policy in force, the last good one of a folder that is followed, and who decides by it."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from batchd.domain.ids import AccountId
from batchd.domain.permission import Access, Decision, Role
from batchd.domain.ports import StartupError
from batchd.file_watcher import Contents, Folder, Wanted, following, read
from batchd.observability import metrics

logger = logging.getLogger(__name__)


class Policy(Protocol):
    @property
    def revision(self) -> str: ...

    def decide(self, role: str, account: AccountId, operation: str, *, own: bool) -> Decision: ...


P = TypeVar("P", bound=Policy)
Load = Callable[[Contents], P]
"""Makes a policy of the files, or raises StartupError. Runs in a thread, and takes breath."""
FindRoles = Callable[[P, AccountId, str | None], Iterable[Role]]
"""Gives what `Authorizer.find_roles` returns. Runs in a thread: a large policy takes a while."""


class PolicyStore(Generic[P]):
    """`policy` is replaced in one step; whoever looks twice at it may see two."""

    def __init__(self, folder: Path, load: Load[P], policy: P) -> None:
        self.policy = policy
        self.current = True
        """Whether the folder holds what is in force; False while it holds something bad."""
        self._folder = folder
        self._load = load
        self._tell(current=True)

    def take(self, contents: Contents) -> None:
        """Put a new state of the folder in force, unless it is bad."""
        try:
            policy = self._load(contents)
        except StartupError as error:
            self._tell(current=False)
            logger.error("policy %s stays in force: %s", self.policy.revision, error)  # noqa: TRY400
        except Exception:
            self._tell(current=False)
            logger.exception("policy %s stays in force", self.policy.revision)
        else:
            self.policy = policy
            self._tell(current=True)

    def _tell(self, *, current: bool) -> None:
        self.current = current
        metrics.POLICY_IN_FORCE.set(current)
        metrics.POLICY_LOADS.labels("in_force" if current else "refused").inc()
        if current:
            logger.info(
                "policy %s in force: %s, from %s", self.policy.revision, self.policy, self._folder
            )


def revision_of(contents: Contents) -> str:
    """Hash names and contents; the first 16 hexadecimal digits tell any two states apart."""
    digest = hashlib.sha256()
    for file, content in contents.items():
        digest.update(f"{file.name}\0{len(content)}\0".encode())
        digest.update(content if isinstance(content, bytes) else content.encode())
    return digest.hexdigest()[:16]


@asynccontextmanager
async def open_policies(
    folder: Path, wanted: Wanted, load: Load[P]
) -> AsyncIterator[PolicyStore[P]]:
    """Load the policy and follow its folder. Raises what `load` refuses it for."""
    files = Folder(folder, wanted)
    contents = await asyncio.to_thread(read, files)
    policies = PolicyStore(folder, load, await asyncio.to_thread(load, contents))
    async with following(files, policies.take, seen=contents):
        yield policies


class FileAuthorizer(Generic[P]):
    """Implements `domain.permission.Authorizer`: decides by the policy in force."""

    def __init__(self, policies: PolicyStore[P], find_roles: FindRoles[P]) -> None:
        self._policies = policies
        self._find_roles = find_roles

    @property
    def revision(self) -> str:
        return self._policies.policy.revision

    @property
    def current(self) -> bool:
        return self._policies.current

    async def decide(self, access: Access) -> Decision:
        caller = access.caller
        return self._policies.policy.decide(
            caller.role, caller.account, access.operation, own=access.own
        )

    async def find_roles(self, account: AccountId, role: str | None = None) -> Sequence[Role]:
        policy = self._policies.policy
        return await asyncio.to_thread(lambda: list(self._find_roles(policy, account, role)))


@asynccontextmanager
async def open_authorizer(
    folder: Path, wanted: Wanted, load: Load[P], find_roles: FindRoles[P]
) -> AsyncIterator[FileAuthorizer[P]]:
    """Open an authorizer for the policies of a folder. Raises what `load` refuses them for."""
    async with open_policies(folder, wanted, load) as policies:
        yield FileAuthorizer(policies, find_roles)
