"""An upload: a temporary URL that was handed out, and what became of it."""

from dataclasses import dataclass
from datetime import datetime

from batchd.domain.ids import AccountId, BatchId, Handler, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    handler: Handler
    account: AccountId
    user: UserId
    created_ts: datetime
    validity_ts: datetime
    invalidated_ts: datetime | None
    batch: BatchId | None
    """The batch that took the file."""

    def usable(self, now: datetime) -> bool:
        """Whether a batch can still be made of it."""
        return self.invalidated_ts is None and self.batch is None and now < self.validity_ts
