"""An upload: a temporary URL that was issued, and its state."""

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
    """The batch created from the file."""

    def usable(self, now: datetime) -> bool:
        """Return whether a batch can still be created from the upload."""
        return self.invalidated_ts is None and self.batch is None and now < self.validity_ts
