"""The authorizer that ships with batchd: Casbin over the policy files of one folder."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from batchd.domain.ids import AccountId
from batchd.domain.permission import Access, Authorizer, AuthorizerContext, Decision, Role
from batchd.plugins.casbin_authorizer.bad_policy import BadPolicy
from batchd.plugins.casbin_authorizer.known import Known
from batchd.plugins.casbin_authorizer.policy import Policy, load_policy, parse_policy, wanted
from batchd.plugins.casbin_authorizer.roles import find_roles
from batchd.policy_folder import PolicyFolder, open_policies

__all__ = ["BadPolicy", "CasbinAuthorizer", "Known", "Policy", "casbin_authorizer", "load_policy"]


class CasbinAuthorizer:
    """Decides by the policy in force."""

    def __init__(self, policies: PolicyFolder[Policy]) -> None:
        self._policies = policies

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
        # In a thread: of a large policy it takes a while.
        return await asyncio.to_thread(
            lambda: list(find_roles(self._policies.policy, str(account), role))
        )


@asynccontextmanager
async def casbin_authorizer(context: AuthorizerContext) -> AsyncIterator[Authorizer]:
    """Open the authorizer for the folder `settings.policies`, and follow it. Raises BadPolicy."""
    folder = context.settings.policies
    known = Known(operations=context.operations, more=context.more_operations)
    async with open_policies(
        folder, wanted, partial(parse_policy, folder, known=known)
    ) as policies:
        yield CasbinAuthorizer(policies)
