"""Users and their secrets: administered at the command line, looked up to authenticate callers."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from batchd.db import users as table
from batchd.db.connection import Database
from batchd.domain.errors import NotFound, Unauthorized
from batchd.domain.ids import AccountId, UserId
from batchd.domain.ports import Clock, Ids
from batchd.domain.users import Caller, User

SECRET_LENGTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A secret in plain text: the only time that it is shown."""

    user: User
    secret: str
    validity_ts: datetime | None


def _new_secret() -> str:
    return secrets.token_urlsafe(SECRET_LENGTH * 3 // 4)


def hash_secret(secret: str) -> bytes:
    # A header may hold bytes that are not text: never a secret, but they must not raise here.
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


class Users:
    """For the command line, whose user has the database's credentials, and for authentication.

    No permission is checked here.
    """

    def __init__(self, database: Database, clock: Clock, ids: Ids) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids

    async def create(
        self,
        *,
        account: AccountId | None,
        role: str,
        name: str,
        validity_ts: datetime | None = None,
    ) -> NewSecret:
        """Create a user; without an account, open a new one for it."""
        now = self._clock.now()
        user = User(
            account=account or AccountId(self._ids.new()),
            user=UserId(self._ids.new()),
            role=role,
            name=name,
            created_ts=now,
            disabled_ts=None,
        )
        secret = _new_secret()
        async with self._database.transaction() as connection:
            await table.insert(connection, user)
            await table.insert_secret(
                connection, user.user, hash_secret(secret), now=now, validity_ts=validity_ts
            )
        return NewSecret(user=user, secret=secret, validity_ts=validity_ts)

    async def find_all(self, account: AccountId | None = None) -> Sequence[User]:
        async with self._database.connection() as connection:
            return await table.find_all(connection, account)

    async def rotate(
        self,
        user: UserId,
        *,
        old_until: datetime | None = None,
        validity_ts: datetime | None = None,
    ) -> NewSecret:
        """Issue a new secret; the old ones expire at `old_until`, or now. Raises NotFound."""
        now = self._clock.now()
        secret = _new_secret()
        async with self._database.transaction() as connection:
            existing = await table.find(connection, user)
            if existing is None:
                raise NotFound(f"There is no user {user}.")
            await table.end_secrets(connection, user, at=old_until or now)
            await table.insert_secret(
                connection, user, hash_secret(secret), now=now, validity_ts=validity_ts
            )
        return NewSecret(user=existing, secret=secret, validity_ts=validity_ts)

    async def disable(self, user: UserId) -> None:
        """Reject the user from now on; the lines of its batches fail. Raises NotFound."""
        async with self._database.transaction() as connection:
            if not await table.disable(connection, user, now=self._clock.now()):
                raise NotFound(f"There is no user {user}.")

    async def set_role(self, user: UserId, role: str) -> User:
        """Change the role; running batches notice within a second. Raises NotFound."""
        async with self._database.transaction() as connection:
            changed = await table.set_role(connection, user, role)
        if changed is None:
            raise NotFound(f"There is no user {user}.")
        return changed

    async def find_by_secret(self, secret_hash: bytes) -> tuple[Caller, datetime | None] | None:
        """Return the holder of the secret and when it expires; None if it is not valid."""
        async with self._database.connection() as connection:
            return await table.find_by_secret(connection, secret_hash, now=self._clock.now())

    async def current(self, user: UserId) -> Caller:
        """Return the user as a caller, for work done on its behalf. Raises Unauthorized."""
        async with self._database.connection() as connection:
            caller = await table.find_caller(connection, user)
        if caller is None:
            raise Unauthorized("The user that created the batch has been disabled.")
        return caller
