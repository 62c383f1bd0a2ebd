"""How a batch comes to be: once for one upload, however often it is asked for."""

import hashlib

import msgspec

from batchd.db import batches as table
from batchd.db import idempotency_keys, uploads
from batchd.db.connection import Connection, Database
from batchd.domain.batches import Batch, Status
from batchd.domain.commands import CreateBatch, Form
from batchd.domain.errors import (
    IdempotencyViolation,
    OperationNotAllowed,
    OperationOrderViolation,
    QuotaViolation,
)
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.permission import READS
from batchd.domain.ports import Clock, Ids, Storage
from batchd.domain.storage_keys import upload_key
from batchd.domain.users import Caller
from batchd.queue import jobs
from batchd.services import audit
from batchd.services.authorization import Grant, PermissionChecker
from batchd.services.batches import BatchView
from batchd.services.operation_registry import OperationRegistry
from batchd.services.uploads import not_found as upload_not_found


def _request_hash(wanted: CreateBatch) -> bytes:
    """Tell a repeated request from another one: equal for bodies that mean the same."""
    batch_dict = None if wanted.batch_dict is None else msgspec.json.decode(wanted.batch_dict)
    body = [str(wanted.handler), wanted.operation, wanted.hash, batch_dict, wanted.priority]
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).digest()


class BatchCreation:
    def __init__(
        self,
        database: Database,
        storage: Storage,
        permissions: PermissionChecker,
        operations: OperationRegistry,
        clock: Clock,
        ids: Ids,
        *,
        max_file_bytes: int,
        max_open_batches: int,
    ) -> None:
        self._database = database
        self._storage = storage
        self._permissions = permissions
        self._operations = operations
        self._clock = clock
        self._ids = ids
        self._max_file_bytes = max_file_bytes
        self._max_open_batches = max_open_batches

    async def create(self, caller: Caller, form: Form[CreateBatch]) -> BatchView:
        """Make a batch of an uploaded file, or return the one that the same request made before."""
        making = await self._permissions.require(caller, "create_batch", form)
        wanted = form()
        if self._operations.find(wanted.operation) is None:
            raise OperationNotAllowed(
                f"'{wanted.operation}' can't be run in batches. "
                f"These can: {', '.join(self._operations)}."
            )
        running = await self._permissions.require(caller, wanted.operation, form)
        request_hash = _request_hash(wanted)
        async with self._database.transaction() as connection:
            made = await self._find_made(connection, caller, making, wanted, request_hash)
            if made is not None:
                return BatchView(batch=made)
        # Looked at between two transactions: nothing is locked while the storage is asked.
        uploaded = await self._storage.stat(upload_key(caller.account, wanted.handler))
        async with self._database.transaction() as connection:
            batch = await self._make(
                connection,
                caller,
                making,
                wanted,
                request_hash,
                None if uploaded is None else uploaded.size,
            )
        for grant in (making, running):
            if grant.operation not in READS:
                audit.record(
                    caller,
                    grant.operation,
                    grant.decision,
                    batch=batch.batch,
                    handler=wanted.handler,
                )
        return BatchView(batch=batch)

    async def _find_made(
        self,
        connection: Connection,
        caller: Caller,
        making: Grant,
        wanted: CreateBatch,
        request_hash: bytes,
    ) -> Batch | None:
        found = await table.find_by_handler(connection, caller.account, wanted.handler)
        if found is None or not making.on(caller, found[0].user).allowed:
            # That the key was used for another request is said when it is claimed: 404 comes first.
            return None
        batch, made_by = found
        if made_by != request_hash:
            raise IdempotencyViolation(
                f"The upload {wanted.handler} has been used for the batch {batch.batch}, with "
                "another body. Upload the file again to make another batch of it."
            )
        await self._claim_key(connection, caller, wanted, request_hash, batch.batch)
        return batch

    async def _claim_key(
        self,
        connection: Connection,
        caller: Caller,
        wanted: CreateBatch,
        request_hash: bytes,
        batch: BatchId,
    ) -> None:
        """Keep the key, if there is one, for this request. Raises IdempotencyViolation.

        Also where the batch is there already: whoever was answered under a key has used it.
        """
        key = wanted.idempotency_key
        if key is None or await idempotency_keys.claim(
            connection,
            caller.account,
            key,
            request_hash=request_hash,
            batch=batch,
            now=self._clock.now(),
        ):
            return
        used = await idempotency_keys.find(connection, caller.account, key)
        if used is not None and used[0] != request_hash:
            raise IdempotencyViolation(
                "This Idempotency-Key was used for another request. Use a new one."
            )

    async def _make(
        self,
        connection: Connection,
        caller: Caller,
        making: Grant,
        wanted: CreateBatch,
        request_hash: bytes,
        size: int | None,
    ) -> Batch:
        now = self._clock.now()
        upload = await uploads.find_for_update(connection, caller.account, wanted.handler)
        if upload is None or not making.reads(caller, upload.user, handler=upload.handler):
            raise upload_not_found(wanted.handler)
        # The upload is held now, so another request for it has either finished or waits.
        made = await self._find_made(connection, caller, making, wanted, request_hash)
        if made is not None:
            return made
        if upload.batch is not None:
            raise IdempotencyViolation(
                f"The upload {wanted.handler} made a batch that has been deleted, or is not yours. "
                "Upload the file again."
            )
        if not upload.usable(now):
            raise upload_not_found(wanted.handler)
        if size is None:
            raise OperationOrderViolation(
                "Nothing has been uploaded yet: PUT the file to the upload's URL first."
            )
        if size > self._max_file_bytes:
            raise QuotaViolation(
                f"The file has {size} bytes; at most {self._max_file_bytes} are taken. Split it."
            )
        if self._max_open_batches <= await table.count_open(
            connection, caller.account, at_most=self._max_open_batches
        ):
            raise QuotaViolation(
                f"The account has {self._max_open_batches} batches that are not at an end, and may "
                "have no more. Wait for some to end, or cancel them."
            )
        batch = Batch(
            batch=BatchId(self._ids.new()),
            account=caller.account,
            user=caller.user,
            handler=wanted.handler,
            operation=wanted.operation,
            status=Status.NEW,
            created_ts=now,
            updated_ts=now,
            hash=wanted.hash,
            batch_dict=wanted.batch_dict,
            priority=wanted.priority,
            attempt=0,
            input_key=None,
            input_problem=None,
            input_size=size,
            lines=None,
            download_key=None,
            results=None,
        )
        await self._claim_key(connection, caller, wanted, request_hash, batch.batch)
        await table.insert(connection, batch, request_hash=request_hash)
        await uploads.set_batch(connection, wanted.handler, batch.batch)
        await jobs.enqueue(connection, batch, [Job(Stage.COPY, batch.batch)])
        return batch
