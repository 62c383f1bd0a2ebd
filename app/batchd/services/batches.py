"""Batches as their callers see them: looked at, listed, cancelled and deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from batchd.db import batch_list, chunks
from batchd.db import batches as table
from batchd.db.batch_loader import BatchLoader
from batchd.db.connection import Connection, Database
from batchd.db.notifications import Channel, notify
from batchd.domain.batches import (
    CANCEL_STATUSES,
    DOWNLOAD_STATUSES,
    END_STATUSES,
    Batch,
    LineCounts,
    Status,
    sources_of,
)
from batchd.domain.commands import CancelBatch, Cursor, DeleteBatch, Form, GetBatch, GetBatches
from batchd.domain.errors import IdempotencyViolation, NotFound, OperationOrderViolation
from batchd.domain.ids import AccountId, BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.ports import Clock, SignedUrl, Storage
from batchd.domain.users import Caller
from batchd.queue import jobs
from batchd.services.authorization import OwnershipScope, PermissionChecker


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A batch with what was asked for along with it."""

    batch: Batch
    download: SignedUrl | None = None
    tally: LineCounts | None = None
    """Given if `progress` or `errors` was asked for."""
    expand: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPage:
    batches: Mapping[BatchId, Status] = field(default_factory=dict)
    """In the order of the page."""
    cursor: Cursor | None = None
    """Where the next page begins; None: this is the last one."""
    oldest_first: bool = False


def not_found(batch: BatchId) -> NotFound:
    return NotFound(f"There is no batch {batch} in this account.")


class Batches:
    def __init__(
        self,
        database: Database,
        reads: BatchLoader,
        storage: Storage,
        permissions: PermissionChecker,
        clock: Clock,
        *,
        download_validity_s: int,
    ) -> None:
        self._database = database
        self._reads = reads
        self._storage = storage
        self._permissions = permissions
        self._clock = clock
        self._download_validity_s = download_validity_s

    async def get(self, caller: Caller, form: Form[GetBatch]) -> BatchView:
        grant = await self._permissions.require(caller, "get_batch", form)
        wanted = form()
        tally = None
        if wanted.expand & {"progress", "errors"}:
            batch, tally = await self._find_with_tally(caller.account, wanted.batch)
        else:
            batch = await self._reads.find(caller.account, wanted.batch)
        if batch is None or not grant.reads(caller, batch.user, batch=batch.batch):
            raise not_found(wanted.batch)
        download = None
        if wanted.download and batch.status in DOWNLOAD_STATUSES and batch.download_key is not None:
            download = await self._storage.presign_download(
                batch.download_key,
                validity_s=self._download_validity_s,
                filename=f"{batch.batch}.jsonl",
            )
        return BatchView(batch=batch, download=download, tally=tally, expand=wanted.expand)

    async def _find_with_tally(
        self, account: AccountId, wanted: BatchId
    ) -> tuple[Batch | None, LineCounts | None]:
        # At the end the counts move from the chunks to the batch: whoever looks here before and
        # there after it would find them nowhere.
        async with self._database.snapshot() as connection:
            batch = await table.find(connection, account, wanted)
            if batch is None:
                return None, None
            if batch.status in END_STATUSES or batch.status is Status.DELETING:
                return batch, await table.find_final_counts(connection, wanted)
            return batch, await chunks.find_line_counts(connection, wanted)

    async def get_page(self, caller: Caller, form: Form[GetBatches]) -> BatchPage:
        """List the batches the caller may see: newest first, or oldest first from a time on."""
        grant = await self._permissions.require(caller, "get_batches", form)
        wanted = form()
        async with self._database.connection() as connection:
            page, more = await batch_list.find_page(
                connection,
                caller.account,
                wanted,
                only=caller.user if grant.whose is OwnershipScope.OWN else None,
                without=caller.user if grant.whose is OwnershipScope.OTHERS else None,
            )
        cursor = None
        if more:
            cursor = Cursor(created_ts=page[-1].created_ts, batch=page[-1].batch)
        return BatchPage(
            batches={listed.batch: listed.status for listed in page},
            cursor=cursor,
            oldest_first=wanted.oldest_first,
        )

    async def cancel(self, caller: Caller, form: Form[CancelBatch]) -> BatchView:
        """Ask for the batch to be stopped; the workers see to it."""
        grant = await self._permissions.require(caller, "update_batch", form)
        wanted = form().batch
        async with self._database.transaction() as connection:
            batch = await table.find_for_update(connection, caller.account, wanted)
            if batch is None or not grant.changes(caller, batch.user, batch=wanted):
                raise not_found(wanted)
            if batch.status in CANCEL_STATUSES:
                raise IdempotencyViolation(f"The batch is '{batch.status}' already.")
            if batch.status not in sources_of(Status.CANCEL):
                raise OperationOrderViolation(
                    f"The batch is '{batch.status}': there is nothing left to cancel."
                )
            await notify(connection, Channel.CANCELLED, str(wanted))
            return await self._change(connection, batch, Status.CANCEL, Stage.CANCEL)

    async def delete(self, caller: Caller, form: Form[DeleteBatch]) -> BatchView:
        """Have the batch's files and then its row removed."""
        grant = await self._permissions.require(caller, "delete_batch", form)
        wanted = form().batch
        async with self._database.transaction() as connection:
            batch = await table.find_for_update(connection, caller.account, wanted)
            if batch is None or not grant.changes(caller, batch.user, batch=wanted):
                raise not_found(wanted)
            if batch.status not in END_STATUSES:
                raise OperationOrderViolation(
                    f"The batch is '{batch.status}'. "
                    + (
                        "It is being removed."
                        if batch.status is Status.DELETING
                        else "Cancel it first, or wait for its end."
                    )
                )
            return await self._change(connection, batch, Status.DELETING, Stage.DELETE)

    async def _change(
        self, connection: Connection, batch: Batch, to: Status, stage: Stage
    ) -> BatchView:
        """Change the status of a batch that is held, and have a worker go on from there."""
        changed = await table.move(connection, batch.batch, to, now=self._clock.now())
        assert changed is not None, "the row is locked and the change was checked"  # noqa: S101
        await jobs.enqueue(connection, changed, [Job(stage, batch.batch)])
        return BatchView(batch=changed)
