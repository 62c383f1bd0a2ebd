"""The roles of the active policy, as statements."""

import asyncio
import logging
from collections.abc import Sequence

from batchd.domain.commands import GetUserRole, NoParameters, Parsed, valid
from batchd.domain.errors import NotFound, ProcessingTimeout
from batchd.domain.permission import Authorizer, Role
from batchd.domain.users import Caller
from batchd.services.authorization import PermissionChecker

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0


class Roles:
    """Rules that apply only in other accounts than the caller's are never returned."""

    def __init__(self, permissions: PermissionChecker, authorizer: Authorizer) -> None:
        self._permissions = permissions
        self._authorizer = authorizer

    async def get_all(self, caller: Caller, parsed: Parsed[NoParameters]) -> Sequence[Role]:
        await self._permissions.authorize(caller, "get_user_roles", parsed)
        valid(parsed)
        return await self._find(caller)

    async def get(self, caller: Caller, parsed: Parsed[GetUserRole]) -> Role:
        await self._permissions.authorize(caller, "get_user_role", parsed)
        name = valid(parsed).role
        roles = await self._find(caller, name)
        if not roles:
            raise NotFound(f"There is no role '{name}' in this account.")
        return roles[0]

    async def _find(self, caller: Caller, role: str | None = None) -> Sequence[Role]:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await self._authorizer.find_roles(caller.account, role)
        except Exception as error:
            logger.exception("the authorizer did not return its roles")
            raise ProcessingTimeout(
                "The roles could not be read. Try again in a moment."
            ) from error
