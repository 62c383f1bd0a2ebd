"""The permission check: the first thing that every service does."""

import asyncio
import logging

from batchd.domain.callers import Caller
from batchd.domain.errors import AccessForbidden, ProcessingTimeout
from batchd.domain.ports import Access, Authorizer

logger = logging.getLogger(__name__)

_PATIENCE_S = 2.0


class Gate:
    """Asks the authorizer. What it does not clearly allow is denied."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def require(self, caller: Caller, operation: str) -> None:
        """Raise AccessForbidden unless the caller's role may perform the operation.

        An authorizer that fails, or does not answer in time, raises ProcessingTimeout.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                decision = await self._authorizer.decide(Access(caller=caller, operation=operation))
        except Exception as error:
            logger.exception("the authorizer gave no decision on %s", operation)
            raise ProcessingTimeout(
                "The permission could not be checked. Try again in a moment."
            ) from error
        if not decision.allowed:
            raise AccessForbidden(
                f"The role '{caller.role}' may not perform '{operation}'. "
                "Ask whoever maintains the policies for a statement that allows it."
            )
