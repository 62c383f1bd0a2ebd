"""Users, and who calls: a user of an account, in a role."""

from dataclasses import dataclass
from datetime import datetime

from batchd.domain.ids import AccountId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    account: AccountId
    user: UserId
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    account: AccountId
    user: UserId
    role: str
    name: str
    created_ts: datetime
    disabled_ts: datetime | None
