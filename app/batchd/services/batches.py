"""Batches as their callers see them: read, listed, cancelled and deleted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from batchd.db import batch_failures, batch_list, chunks
from batchd.db import batches as table
from batchd.db.batch_loader import BatchLoader
from batchd.db.connection import Connection, Database
from batchd.db.notifications import Channel, notify
from batchd.domain.batches import (
    CANCEL_STATUSES,
    DOWNLOAD_STATUSES,
    END_STATUSES,
    Batch,
    BatchFailure,
    LineCounts,
    Status,
    sources_of,
)
from batchd.domain.commands import (
    CancelBatch,
    Cursor,
    DeleteBatch,
    GetBatch,
    GetBatches,
    Parsed,
    valid,
)
from batchd.domain.errors import IdempotencyViolation, NotFound, OperationOrderViolation
from batchd.domain.ids import AccountId, BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.permission import OwnerFilter
from batchd.domain.ports import Clock, SignedUrl, Storage
from batchd.domain.users import Caller
from batchd.queue import jobs
from batchd.services.authorization import Grant, PermissionChecker


class BatchView(msgspec.Struct, frozen=True, kw_only=True):
    """A batch with the additions that the caller requested."""

    batch: Batch
    download: SignedUrl | None = None
    counts: LineCounts | None = None
    """Given if `progress` or `errors` was requested."""
    failure: BatchFailure | None = None
    """Given if `errors` or `hash` was requested, and the batch has ended."""
    expand: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPage:
    batches: Mapping[BatchId, Status] = field(default_factory=dict)
    """In the order of the page."""
    cursor: Cursor | None = None
    """Where the next page begins; None on the last page."""
    oldest_first: bool = False


def not_found(batch: BatchId) -> NotFound:
    return NotFound(f"There is no batch {batch} in this account.")


class Batches:
    def __init__(
        self,
        database: Database,
        loader: BatchLoader,
        storage: Storage,
        permissions: PermissionChecker,
        clock: Clock,
        *,
        download_validity_s: int,
    ) -> None:
        self._database = database
        self._loader = loader
        self._storage = storage
        self._permissions = permissions
        self._clock = clock
        self._download_validity_s = download_validity_s

    async def get(self, caller: Caller, parsed: Parsed[GetBatch]) -> BatchView:
        grant = await self._permissions.authorize(caller, "get_batch", parsed)
        command = valid(parsed)
        owner = grant.owner_filter(caller)
        counts, failure = None, None
        if command.expand & {"progress", "errors", "hash"}:
            batch, counts, failure = await self._find_details(caller.account, command, owner)
        else:
            batch = await self._loader.find(caller.account, command.batch, owner)
        if batch is None:
            grant.record(caller, exists=False, batch=command.batch)
            raise not_found(command.batch)
        download = None
        if command.download and batch.status in DOWNLOAD_STATUSES and batch.download_key:
            download = await self._storage.presign_download(
                batch.download_key,
                validity_s=self._download_validity_s,
                filename=f"{batch.batch}.jsonl",
            )
        return BatchView(
            batch=batch,
            download=download,
            counts=counts,
            failure=failure,
            expand=command.expand,
        )

    async def _find_details(
        self, account: AccountId, command: GetBatch, owner: OwnerFilter
    ) -> tuple[Batch | None, LineCounts | None, BatchFailure | None]:
        batch_id = command.batch
        # At the end the counts move from the chunks to the batch: reading the batch before that and
        # the chunks after it would miss them.
        async with self._database.snapshot() as connection:
            batch = await table.find(connection, account, batch_id, owner)
            if batch is None:
                return None, None, None
            if batch.status not in END_STATUSES and batch.status is not Status.DELETING:
                return batch, await chunks.find_line_counts(connection, batch_id), None
            counts = await table.find_final_counts(connection, batch_id)
            failure = None
            if command.expand & {"errors", "hash"}:
                failure = await batch_failures.find(connection, batch_id)
            return batch, counts, failure

    async def get_page(self, caller: Caller, parsed: Parsed[GetBatches]) -> BatchPage:
        """List the batches the caller may see: newest first, or oldest first with `ge` alone."""
        grant = await self._permissions.authorize(caller, "get_batches", parsed)
        command = valid(parsed)
        async with self._database.connection() as connection:
            page, has_more = await batch_list.find_page(
                connection, caller.account, command, grant.owner_filter(caller)
            )
        cursor = None
        if has_more:
            cursor = Cursor(created_ts=page[-1].created_ts, batch=page[-1].batch)
        return BatchPage(
            batches={summary.batch: summary.status for summary in page},
            cursor=cursor,
            oldest_first=command.oldest_first,
        )

    async def cancel(self, caller: Caller, parsed: Parsed[CancelBatch]) -> BatchView:
        """Request the cancellation of a batch; the workers carry it out."""
        grant = await self._permissions.authorize(caller, "update_batch", parsed)
        batch_id = valid(parsed).batch
        async with self._database.transaction() as connection:
            batch = await self._lock(connection, caller, grant, batch_id)
            if batch.status in CANCEL_STATUSES:
                raise IdempotencyViolation(f"The batch is '{batch.status}' already.")
            if batch.status not in sources_of(Status.CANCEL):
                raise OperationOrderViolation(
                    f"The batch is '{batch.status}': there is nothing left to cancel."
                )
            await notify(connection, Channel.CANCELLED, str(batch_id))
            return await self._advance(connection, batch, Status.CANCEL, Stage.CANCEL)

    async def delete(self, caller: Caller, parsed: Parsed[DeleteBatch]) -> BatchView:
        """Request the deletion of a batch: its files go first, then its row."""
        grant = await self._permissions.authorize(caller, "delete_batch", parsed)
        batch_id = valid(parsed).batch
        async with self._database.transaction() as connection:
            batch = await self._lock(connection, caller, grant, batch_id)
            if batch.status not in END_STATUSES:
                raise OperationOrderViolation(
                    f"The batch is '{batch.status}'. "
                    + (
                        "It is being deleted."
                        if batch.status is Status.DELETING
                        else "Cancel it first, or wait for its end."
                    )
                )
            return await self._advance(connection, batch, Status.DELETING, Stage.DELETE)

    async def _lock(
        self, connection: Connection, caller: Caller, grant: Grant, batch_id: BatchId
    ) -> Batch:
        """Lock the batch for a change, and record the outcome. Raises NotFound."""
        owner = grant.owner_filter(caller)
        batch = await table.find_for_update(connection, caller.account, batch_id, owner)
        grant.record(caller, exists=batch is not None, batch=batch_id)
        if batch is None:
            raise not_found(batch_id)
        return batch

    async def _advance(
        self, connection: Connection, batch: Batch, status: Status, stage: Stage
    ) -> BatchView:
        """Change the status of a locked batch, and queue the stage that continues from it."""
        advanced = await table.transition(connection, batch.batch, status, now=self._clock.now())
        assert advanced is not None, "the row is locked and the change was checked"  # noqa: S101
        await jobs.enqueue(connection, advanced, [Job(stage, batch.batch)])
        return BatchView(batch=advanced)
