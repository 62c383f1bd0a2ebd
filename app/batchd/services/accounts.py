"""Accounts and their weights in fair scheduling."""

from collections.abc import Iterable

from batchd.db import accounts
from batchd.db.connection import Database
from batchd.domain.ids import AccountId


class Accounts:
    """For the command line, like `Users`: no permission is checked here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def weights(self) -> Iterable[tuple[AccountId, float]]:
        """Return the accounts and their weights."""
        async with self._database.connection() as connection:
            return await accounts.find_weights(connection)

    async def set_weight(self, account: AccountId, weight: float) -> None:
        """Change the weight of an account; jobs that are already queued keep their order."""
        async with self._database.connection() as connection:
            await accounts.set_weight(connection, account, weight)
