"""The identifiers, as distinct types so that one can't be passed in place of another."""

from typing import NewType
from uuid import UUID

AccountId = NewType("AccountId", UUID)
UserId = NewType("UserId", UUID)
BatchId = NewType("BatchId", UUID)
Handler = NewType("Handler", UUID)
"""Identifies an upload: `create_upload_url` issues it, `create_batch` uses it."""
