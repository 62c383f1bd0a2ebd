"""The identifiers, each a type of its own so that one is never taken for another."""

from typing import NewType
from uuid import UUID

AccountId = NewType("AccountId", UUID)
UserId = NewType("UserId", UUID)
BatchId = NewType("BatchId", UUID)
Handler = NewType("Handler", UUID)
"""Names one upload: `create_upload_url` hands it out, `create_batch` takes it."""
