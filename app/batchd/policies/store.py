"""The policy in effect: the last valid one of a watched folder, and the authorizer that uses it."""

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
from batchd.file_watcher import Contents, FileFilter, WatchedFolder, read_files, watch_files
from batchd.observability import metrics

logger = logging.getLogger(__name__)


class Policy(Protocol):
    @property
    def revision(self) -> str: ...

    def decide(self, role: str, account: AccountId, operation: str, *, own: bool) -> Decision: ...


P = TypeVar("P", bound=Policy)
Load = Callable[[Contents], P]
"""Parses the files into a policy, or raises StartupError. Runs in a thread, and yields often."""
FindRoles = Callable[[P, AccountId, str | None], Iterable[Role]]
"""Returns what `Authorizer.find_roles` returns. Runs in a thread: large policies take a while."""


class PolicyStore(Generic[P]):
    """Replaces `policy` in one step; two reads of the attribute may return different policies."""

    def __init__(self, folder: Path, load: Load[P], policy: P) -> None:
        self.policy = policy
        self.current = True
        """Whether the folder holds the policy in effect; False while its files are invalid."""
        self._folder = folder
        self._load = load
        self._publish_state(current=True)

    def apply(self, contents: Contents) -> None:
        """Put a new state of the folder into effect, unless it is invalid."""
        try:
            policy = self._load(contents)
        except StartupError as error:
            self._publish_state(current=False)
            logger.error("policy %s remains in effect: %s", self.policy.revision, error)  # noqa: TRY400
        except Exception:
            self._publish_state(current=False)
            logger.exception("policy %s remains in effect", self.policy.revision)
        else:
            self.policy = policy
            self._publish_state(current=True)

    def _publish_state(self, *, current: bool) -> None:
        self.current = current
        metrics.POLICY_IN_FORCE.set(current)
        metrics.POLICY_LOADS.labels("in_force" if current else "refused").inc()
        if current:
            logger.info(
                "policy %s in effect: %s, from %s", self.policy.revision, self.policy, self._folder
            )


def revision_of(contents: Contents) -> str:
    """Return the first 16 hexadecimal digits of a hash over the names and contents of the files."""
    digest = hashlib.sha256()
    for file, content in contents.items():
        digest.update(f"{file.name}\0{len(content)}\0".encode())
        digest.update(content if isinstance(content, bytes) else content.encode())
    return digest.hexdigest()[:16]


@asynccontextmanager
async def open_policy_store(
    folder: Path, is_policy_file: FileFilter, load: Load[P]
) -> AsyncIterator[PolicyStore[P]]:
    """Load the policy and watch its folder. Raises what `load` raises for an invalid policy."""
    files = WatchedFolder(folder, is_policy_file)
    contents = await asyncio.to_thread(read_files, files)
    store = PolicyStore(folder, load, await asyncio.to_thread(load, contents))
    async with watch_files(files, store.apply, initial=contents):
        yield store


class FileAuthorizer(Generic[P]):
    """Implements `domain.permission.Authorizer` with the policy in effect."""

    def __init__(self, store: PolicyStore[P], find_roles: FindRoles[P]) -> None:
        self._store = store
        self._find_roles = find_roles

    @property
    def revision(self) -> str:
        return self._store.policy.revision

    @property
    def current(self) -> bool:
        return self._store.current

    async def decide(self, access: Access) -> Decision:
        caller = access.caller
        return self._store.policy.decide(
            caller.role, caller.account, access.operation, own=access.own
        )

    async def find_roles(self, account: AccountId, role: str | None = None) -> Sequence[Role]:
        policy = self._store.policy
        return await asyncio.to_thread(lambda: list(self._find_roles(policy, account, role)))


@asynccontextmanager
async def open_authorizer(
    folder: Path, is_policy_file: FileFilter, load: Load[P], find_roles: FindRoles[P]
) -> AsyncIterator[FileAuthorizer[P]]:
    """Open an authorizer for a policy folder. Raises what `load` raises for an invalid policy."""
    async with open_policy_store(folder, is_policy_file, load) as store:
        yield FileAuthorizer(store, find_roles)
