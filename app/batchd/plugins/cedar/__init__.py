"""The authorizer of the extra `batchd[cedar]`: Cedar over the policy files of one folder."""

from contextlib import AbstractAsyncContextManager
from functools import partial

from batchd.configuration import read_settings
from batchd.domain.permission import Authorizer, AuthorizerContext
from batchd.plugins.cedar.loading import InvalidCedarPolicy, is_policy_file, parse_policy
from batchd.plugins.cedar.policy import CedarPolicy
from batchd.plugins.cedar.roles import find_roles
from batchd.policies.settings import PolicySettings
from batchd.policies.store import open_authorizer

__all__ = ["CedarPolicy", "InvalidCedarPolicy", "cedar_authorizer"]


def cedar_authorizer(context: AuthorizerContext) -> AbstractAsyncContextManager[Authorizer]:
    """Open the authorizer for the folder BATCHD_POLICIES. Raises InvalidCedarPolicy."""
    folder = read_settings(PolicySettings, context.environment).policies
    load = partial(
        parse_policy,
        folder,
        operations=context.operations,
        more_operations=context.more_operations,
    )
    roles = partial(find_roles, operations=context.operations)
    return open_authorizer(folder, is_policy_file, load, roles)
