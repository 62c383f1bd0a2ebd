"""The authorizer of the extra `batchd[cedar]`: Cedar policies, one folder of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from batchd.domain.ids import AccountId
from batchd.domain.permission import Access, Authorizer, AuthorizerContext, Decision, Role
from batchd.plugins.cedar_authorizer.loading import BadCedar, parse_policy, wanted
from batchd.plugins.cedar_authorizer.policy import CedarPolicy
from batchd.plugins.cedar_authorizer.roles import find_roles
from batchd.policy_folder import PolicyFolder, open_policies

__all__ = ["BadCedar", "CedarAuthorizer", "CedarPolicy", "cedar_authorizer"]


class CedarAuthorizer:
    """Decides by the policy in force."""

    def __init__(self, policies: PolicyFolder[CedarPolicy], operations: frozenset[str]) -> None:
        self._policies = policies
        self._operations = operations

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
        return await asyncio.to_thread(find_roles, policy, account, role, self._operations)


@asynccontextmanager
async def cedar_authorizer(context: AuthorizerContext) -> AsyncIterator[Authorizer]:
    """Open the authorizer for the folder `settings.policies`, and follow it. Raises BadCedar."""
    load = partial(
        parse_policy,
        context.settings.policies,
        operations=context.operations,
        more_operations=context.more_operations,
    )
    async with open_policies(context.settings.policies, wanted, load) as policies:
        yield CedarAuthorizer(policies, context.operations)
