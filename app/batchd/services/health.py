"""Health checks: whether everything that a request may need responds."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from batchd.db.connection import Database
from batchd.db.migrations import check_schema
from batchd.domain.ids import AccountId, UserId
from batchd.domain.permission import Access, Authorizer
from batchd.domain.ports import Storage
from batchd.domain.users import Caller

_TIMEOUT_S = 3.0
_PROBE_CALLER = Caller(account=AccountId(UUID(int=0)), user=UserId(UUID(int=0)), role="nobody")


class Health:
    def __init__(self, database: Database, storage: Storage, authorizer: Authorizer) -> None:
        self._probes: Mapping[str, Callable[[], Awaitable[None]]] = {
            "database": self._probe_database,
            "schema": self._probe_schema,
            "storage": storage.check,
            "policy": self._probe_authorizer,
        }
        self._database = database
        self._authorizer = authorizer

    async def check(self) -> Mapping[str, bool]:
        """Run all probes at once; return by name whether each succeeded."""
        outcomes = await asyncio.gather(*(self._succeeds(probe) for probe in self._probes.values()))
        return dict(zip(self._probes, outcomes, strict=True))

    @property
    def policy(self) -> Mapping[str, object]:
        """Return the active policy's revision, and whether it is current.

        It is not current while the policy on disk is invalid. The last valid one stays active, so
        the process is ready nevertheless.
        """
        return {"revision": self._authorizer.revision, "current": self._authorizer.current}

    async def _succeeds(self, probe: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await probe()
        except Exception:  # noqa: BLE001  # any failure is the outcome
            return False
        return True

    async def _probe_database(self) -> None:
        await self._database.check()

    async def _probe_schema(self) -> None:
        async with self._database.connection() as connection:
            await check_schema(connection)

    async def _probe_authorizer(self) -> None:
        await self._authorizer.decide(Access(caller=_PROBE_CALLER, operation="get_batch"))
