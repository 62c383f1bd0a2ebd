"""The default authorizer: Casbin over the policy files of one folder."""

from contextlib import AbstractAsyncContextManager
from functools import partial

from batchd.configuration import read_settings
from batchd.domain.permission import Authorizer, AuthorizerContext
from batchd.plugins.casbin.errors import InvalidPolicy
from batchd.plugins.casbin.known_operations import KnownOperations
from batchd.plugins.casbin.policy import Policy, is_policy_file, load_policy, parse_policy
from batchd.plugins.casbin.roles import find_roles
from batchd.policies.settings import PolicySettings
from batchd.policies.store import open_authorizer

__all__ = ["InvalidPolicy", "KnownOperations", "Policy", "casbin_authorizer", "load_policy"]


def casbin_authorizer(context: AuthorizerContext) -> AbstractAsyncContextManager[Authorizer]:
    """Open the authorizer for the folder BATCHD_POLICIES. Raises InvalidPolicy."""
    folder = read_settings(PolicySettings, context.environment).policies
    known_operations = KnownOperations(
        names=context.operations,
        owned=context.owned_operations,
        others_possible=context.more_operations,
    )
    load = partial(parse_policy, folder, known_operations=known_operations)
    return open_authorizer(folder, is_policy_file, load, find_roles)
