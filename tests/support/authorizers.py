"""Authorizers that a test controls."""

from collections.abc import Awaitable, Callable, Sequence

from batchd.domain.ids import AccountId
from batchd.domain.permission import Access, Decision, Role

Decide = Callable[[Access], Awaitable[Decision]]


class Scripted:
    """Decides by a function of the test, and records the requests."""

    def __init__(self, decide: Decide, *, revision: str | None = "1") -> None:
        self.revision = revision
        self.current = True
        self.requests: list[Access] = []
        self._decide = decide

    async def decide(self, access: Access) -> Decision:
        self.requests.append(access)
        return await self._decide(access)

    async def find_roles(
        self,
        account: AccountId,  # it has none
        role: str | None = None,
    ) -> Sequence[Role]:
        return ()


def deciding(*, own: bool, others: bool, revision: str | None = "1") -> Scripted:
    """Return an authorizer that decides the same for every operation."""

    async def decide(access: Access) -> Decision:
        allowed = own if access.own else others
        return Decision(allowed=allowed, revision=authorizer.revision or "none", rule="a rule")

    authorizer = Scripted(decide, revision=revision)
    return authorizer
