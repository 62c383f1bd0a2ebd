"""Users and their secrets, of which only hashes are stored."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from batchd.db.connection import Connection
from batchd.domain.ids import AccountId, UserId
from batchd.domain.users import Caller, User

_INSERT = """
INSERT INTO users (user_id, account, role, name, created_ts) VALUES ($1, $2, $3, $4, $5)
"""


async def insert(connection: Connection, user: User) -> None:
    await connection.execute(
        _INSERT, user.user, user.account, user.role, user.name, user.created_ts
    )


_INSERT_SECRET = """
INSERT INTO secrets (hash, user_id, created_ts, validity_ts) VALUES ($1, $2, $3, $4)
"""


async def insert_secret(
    connection: Connection,
    user: UserId,
    secret_hash: bytes,
    *,
    now: datetime,
    validity_ts: datetime | None,
) -> None:
    await connection.execute(_INSERT_SECRET, secret_hash, user, now, validity_ts)


# Earlier expiry times are kept: rotation must not revive an expired secret.
_EXPIRE_SECRETS = """
UPDATE secrets SET validity_ts = $2 WHERE user_id = $1 AND (validity_ts IS NULL OR validity_ts > $2)
"""


async def end_secrets(connection: Connection, user: UserId, *, at: datetime) -> None:
    """Let the user's secrets expire at that time."""
    await connection.execute(_EXPIRE_SECRETS, user, at)


def _decode_caller(row: asyncpg.Record) -> Caller:
    return Caller(account=row["account"], user=row["user_id"], role=row["role"])


_FIND_BY_SECRET = """
SELECT u.account, u.user_id, u.role, s.validity_ts FROM secrets s JOIN users u USING (user_id)
WHERE s.hash = $1 AND (s.validity_ts IS NULL OR s.validity_ts > $2) AND u.disabled_ts IS NULL
"""


async def find_by_secret(
    connection: Connection, secret_hash: bytes, *, now: datetime
) -> tuple[Caller, datetime | None] | None:
    """Return the owner of a valid secret and the time it expires; None if it is not valid."""
    row = await connection.fetchrow(_FIND_BY_SECRET, secret_hash, now)
    return None if row is None else (_decode_caller(row), row["validity_ts"])


_FIND_CALLER = "SELECT account, user_id, role FROM users WHERE user_id = $1 AND disabled_ts IS NULL"


async def find_caller(connection: Connection, user: UserId) -> Caller | None:
    """Return the user's current account and role; None if it is unknown or disabled."""
    row = await connection.fetchrow(_FIND_CALLER, user)
    return None if row is None else _decode_caller(row)


_COLUMNS = "user_id, account, role, name, created_ts, disabled_ts"


def _decode_user(row: asyncpg.Record) -> User:
    return User(
        account=row["account"],
        user=row["user_id"],
        role=row["role"],
        name=row["name"],
        created_ts=row["created_ts"],
        disabled_ts=row["disabled_ts"],
    )


_FIND = f"SELECT {_COLUMNS} FROM users WHERE user_id = $1"


async def find(connection: Connection, user: UserId) -> User | None:
    row = await connection.fetchrow(_FIND, user)
    return None if row is None else _decode_user(row)


_FIND_ALL = f"""
SELECT {_COLUMNS} FROM users WHERE $1::uuid IS NULL OR account = $1 ORDER BY created_ts, user_id
"""


async def find_all(connection: Connection, account: AccountId | None) -> Sequence[User]:
    """Return the users of one account, or of all accounts, oldest first."""
    return [_decode_user(row) for row in await connection.fetch(_FIND_ALL, account)]


_DISABLE = "UPDATE users SET disabled_ts = coalesce(disabled_ts, $2) WHERE user_id = $1 RETURNING 1"


async def disable(connection: Connection, user: UserId, *, now: datetime) -> bool:
    """Disable the user; return whether it exists."""
    return await connection.fetchval(_DISABLE, user, now) is not None


_SET_ROLE = f"UPDATE users SET role = $2 WHERE user_id = $1 RETURNING {_COLUMNS}"


async def set_role(connection: Connection, user: UserId, role: str) -> User | None:
    """Change the role; return the updated user, None if it does not exist."""
    row = await connection.fetchrow(_SET_ROLE, user, role)
    return None if row is None else _decode_user(row)
