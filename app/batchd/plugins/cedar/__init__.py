"""The authorizer of the extra `batchd[cedar]`: Cedar policies, one folder of them."""

from contextlib import AbstractAsyncContextManager
from functools import partial

from batchd.domain.permission import Authorizer, AuthorizerContext
from batchd.plugins.cedar.loading import InvalidCedarPolicy, parse_policy, wanted
from batchd.plugins.cedar.policy import CedarPolicy
from batchd.plugins.cedar.roles import find_roles
from batchd.policies.store import open_authorizer

__all__ = ["CedarPolicy", "InvalidCedarPolicy", "cedar_authorizer"]


def cedar_authorizer(context: AuthorizerContext) -> AbstractAsyncContextManager[Authorizer]:
    """Open the authorizer for the folder `settings.policies`. Raises InvalidCedarPolicy."""
    folder = context.settings.policies
    load = partial(
        parse_policy,
        folder,
        operations=context.operations,
        more_operations=context.more_operations,
    )
    roles = partial(find_roles, operations=context.operations)
    return open_authorizer(folder, wanted, load, roles)
