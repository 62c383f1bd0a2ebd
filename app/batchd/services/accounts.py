"""Accounts and their parts of the fleet."""

from collections.abc import Iterable

from batchd.db import accounts
from batchd.db.connection import Database
from batchd.domain.ids import AccountId


class Accounts:
    """For the command line, like `Users`: no permission is asked here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def weights(self) -> Iterable[tuple[AccountId, float]]:
        """Return the accounts, and how many times the usual part of the fleet each may have."""
        async with self._database.connection() as connection:
            return await accounts.find_weights(connection)

    async def set_weight(self, account: AccountId, weight: float) -> None:
        """Give an account another part; what it has queued already keeps its place."""
        async with self._database.connection() as connection:
            await accounts.set_weight(connection, account, weight)
