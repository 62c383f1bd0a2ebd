"""Uploads: temporary URLs that accept a batch file."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from batchd.db import uploads as table
from batchd.db.advisory_locks import AccountLock, acquire_for_account
from batchd.db.connection import Database
from batchd.domain.commands import InvalidateUpload, NoParameters, Parsed, valid
from batchd.domain.errors import (
    IdempotencyViolation,
    NotFound,
    ProcessingTimeout,
    QuotaViolation,
    StorageRefused,
)
from batchd.domain.ids import Handler
from batchd.domain.ports import Clock, Ids, Storage
from batchd.domain.storage_keys import upload_key
from batchd.domain.uploads import Upload
from batchd.domain.users import Caller
from batchd.services.authorization import PermissionChecker

logger = logging.getLogger(__name__)

_CLEANUP_SLICE = 500
_CLOCK_TOLERANCE = timedelta(hours=1)
"""URLs expire by the storage's own clock, and an upload that began in time may take a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload:
    handler: Handler
    url: str
    validity_ts: datetime


def not_found(handler: Handler) -> NotFound:
    return NotFound(
        f"There is no upload {handler}, or it has expired. Request a new URL with POST /cache."
    )


class Uploads:
    def __init__(
        self,
        database: Database,
        storage: Storage,
        permissions: PermissionChecker,
        clock: Clock,
        ids: Ids,
        *,
        validity_s: int,
        graveyard_s: float,
        max_open_uploads: int,
    ) -> None:
        self._database = database
        self._storage = storage
        self._permissions = permissions
        self._clock = clock
        self._ids = ids
        self._validity_s = validity_s
        self._graveyard = timedelta(seconds=graveyard_s)
        self._max_open_uploads = max_open_uploads

    async def create(self, caller: Caller, parsed: Parsed[NoParameters]) -> NewUpload:
        """Issue a URL that accepts one file by HTTP PUT.

        Raises QuotaViolation if too many are valid and unused.
        """
        grant = await self._permissions.authorize(caller, "create_upload_url", parsed)
        valid(parsed)
        handler = Handler(self._ids.new())
        signed = await self._storage.presign_upload(
            upload_key(caller.account, handler), validity_s=self._validity_s
        )
        upload = Upload(
            handler=handler,
            account=caller.account,
            user=caller.user,
            created_ts=self._clock.now(),
            validity_ts=signed.validity_ts,
            invalidated_ts=None,
            batch=None,
        )
        async with self._database.transaction() as connection:
            await acquire_for_account(connection, AccountLock.UPLOADS, caller.account)
            if self._max_open_uploads <= await table.count_open(
                connection, caller.account, limit=self._max_open_uploads
            ):
                raise QuotaViolation(
                    f"The account has {self._max_open_uploads} upload URLs that no batch was "
                    "created from and that are still valid, which is the limit. Create batches "
                    "from them, or wait until some expire; an invalidated one counts until then."
                )
            await table.insert(connection, upload)
        grant.record(caller, handler=handler)
        return NewUpload(handler=handler, url=signed.url, validity_ts=signed.validity_ts)

    async def invalidate(self, caller: Caller, parsed: Parsed[InvalidateUpload]) -> Handler:
        """Refuse the handler for new batches from now on, and delete the file if it is unused.

        The file of a batch stays for as long as that batch needs it.
        """
        grant = await self._permissions.authorize(caller, "invalidate_upload_url", parsed)
        handler = valid(parsed).handler
        owner = grant.owner_filter(caller)
        now = self._clock.now()
        async with self._database.transaction() as connection:
            upload = await table.find_for_update(connection, caller.account, handler, owner)
            grant.record(caller, exists=upload is not None, handler=handler)
            if upload is None:
                raise not_found(handler)
            if upload.invalidated_ts is not None:
                raise IdempotencyViolation(f"The upload {handler} has been invalidated already.")
            if upload.batch is None and now >= upload.validity_ts:
                raise not_found(handler)
            await table.invalidate(connection, handler, now=now)
        if upload.batch is None:
            await self._delete_file(upload)
        return handler

    async def _delete_file(self, upload: Upload) -> None:
        """Delete the file; while the storage is unavailable, that is left to `delete_expired`."""
        try:
            await self._storage.delete([upload_key(upload.account, upload.handler)])
        except (ProcessingTimeout, StorageRefused):
            logger.warning("the file of upload %s stays until it expires", upload.handler)

    async def delete_expired(self) -> int:
        """Delete the files and rows of uploads that have expired; return how many."""
        async with self._database.connection() as connection:
            expired = await table.find_expired(
                connection,
                tolerance=_CLOCK_TOLERANCE,
                graveyard=self._graveyard,
                limit=_CLEANUP_SLICE,
            )
        if expired:
            # Files first: a row without a file is found again, a file without a row is not.
            await self._storage.delete(
                upload_key(upload.account, upload.handler) for upload in expired
            )
            async with self._database.connection() as connection:
                await table.delete(connection, [upload.handler for upload in expired])
        return len(expired)
