"""Whether this process can do its work."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from batchd.db.connection import Database
from batchd.db.migrations import check_schema
from batchd.domain.ids import AccountId, UserId
from batchd.domain.permission import Access, Authorizer
from batchd.domain.ports import Storage
from batchd.domain.users import Caller

_PATIENCE_S = 3.0
_NOBODY = Caller(account=AccountId(UUID(int=0)), user=UserId(UUID(int=0)), role="nobody")


class Health:
    def __init__(self, database: Database, storage: Storage, authorizer: Authorizer) -> None:
        self._probes: Mapping[str, Callable[[], Awaitable[None]]] = {
            "database": self._ask_database,
            "schema": self._ask_schema,
            "storage": storage.check,
            "policy": self._ask_authorizer,
        }
        self._database = database
        self._authorizer = authorizer

    async def check(self) -> Mapping[str, bool]:
        """Ask everything that a request may need; by name, whether it answered."""
        answers = await asyncio.gather(*(self._answers(probe) for probe in self._probes.values()))
        return dict(zip(self._probes, answers, strict=True))

    @property
    def policy(self) -> Mapping[str, object]:
        """Which policy decides, and whether it is the one that is kept where policies are kept.

        If not, that one is bad. Work goes on by the last good one: no reason to be not ready.
        """
        return {"revision": self._authorizer.revision, "current": self._authorizer.current}

    async def _answers(self, probe: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await probe()
        except Exception:  # noqa: BLE001  # whatever it is: it does not answer
            return False
        return True

    async def _ask_database(self) -> None:
        async with self._database.connection() as connection:
            await connection.fetchval("SELECT 1")

    async def _ask_schema(self) -> None:
        async with self._database.connection() as connection:
            await check_schema(connection)

    async def _ask_authorizer(self) -> None:
        await self._authorizer.decide(Access(caller=_NOBODY, operation="get_batch"))
