"""The roles of the policy in force, as statements."""

import asyncio
import logging
from collections.abc import Sequence

from batchd.domain.commands import Form, GetUserRole
from batchd.domain.errors import NotFound, ProcessingTimeout
from batchd.domain.permission import Authorizer, Role
from batchd.domain.users import Caller
from batchd.services.authorization import PermissionChecker

logger = logging.getLogger(__name__)

_PATIENCE_S = 10.0


class Roles:
    """What holds in another account than the caller's is never told."""

    def __init__(self, permissions: PermissionChecker, authorizer: Authorizer) -> None:
        self._permissions = permissions
        self._authorizer = authorizer

    async def get_all(self, caller: Caller, form: Form[None]) -> Sequence[Role]:
        await self._permissions.require(caller, "get_user_roles", form)
        form()
        return await self._find(caller)

    async def get(self, caller: Caller, form: Form[GetUserRole]) -> Role:
        await self._permissions.require(caller, "get_user_role", form)
        wanted = form().role
        found = await self._find(caller, wanted)
        if not found:
            raise NotFound(f"There is no role '{wanted}' in this account.")
        return found[0]

    async def _find(self, caller: Caller, role: str | None = None) -> Sequence[Role]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._authorizer.find_roles(caller.account, role)
        except Exception as error:
            logger.exception("the authorizer did not tell its roles")
            raise ProcessingTimeout(
                "The roles could not be read. Try again in a moment."
            ) from error
