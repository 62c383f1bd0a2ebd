"""The authorizer that ships with batchd: Casbin over the policy files of one folder."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batchd.domain.ports import Access, Authorizer, Decision
from batchd.plugins.casbin_authorizer.bad_policy import BadPolicy
from batchd.plugins.casbin_authorizer.policy import Policy, load_policy
from batchd.settings import Settings

__all__ = ["BadPolicy", "CasbinAuthorizer", "Policy", "casbin_authorizer", "load_policy"]

logger = logging.getLogger(__name__)


class CasbinAuthorizer:
    """Decides by the policy in force; assigning another to `policy` replaces it in one step."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    async def decide(self, access: Access) -> Decision:
        caller = access.caller
        return self.policy.decide(caller.role, caller.account, access.operation)


@asynccontextmanager
async def casbin_authorizer(settings: Settings) -> AsyncIterator[Authorizer]:
    """Open the authorizer for the folder `settings.policies`. Raises BadPolicy."""
    policy = await asyncio.to_thread(load_policy, settings.policies)
    logger.info(
        "policy %s in force: %d rules from %s",
        policy.revision,
        len(policy.statements.rules),
        settings.policies,
    )
    yield CasbinAuthorizer(policy)
