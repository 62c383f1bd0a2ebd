"""Who calls: a user of an account, in a role."""

from dataclasses import dataclass

from batchd.domain.ids import AccountId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    account: AccountId
    user: UserId
    role: str
