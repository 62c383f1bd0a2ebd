"""Creates batches: one per upload, however often the request is repeated."""

import hashlib
from decimal import Decimal, InvalidOperation

import msgspec

from batchd.db import batches as table
from batchd.db import idempotency_keys, uploads
from batchd.db.advisory_locks import AccountLock, acquire_for_account
from batchd.db.batch_list import next_created_ts
from batchd.db.connection import Connection, Database
from batchd.domain.batches import Batch, Status
from batchd.domain.commands import CreateBatch, Parsed, valid
from batchd.domain.errors import (
    IdempotencyViolation,
    OperationNotAllowed,
    OperationOrderViolation,
    QuotaViolation,
)
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.domain.permission import OwnerFilter
from batchd.domain.ports import Clock, Ids, ObjectInfo, Storage
from batchd.domain.storage_keys import upload_key
from batchd.domain.suggestions import hint
from batchd.domain.users import Caller
from batchd.queue import jobs
from batchd.services.authorization import PermissionChecker
from batchd.services.batches import BatchView
from batchd.services.operation_registry import OperationRegistry
from batchd.services.uploads import not_found as upload_not_found


def _number(text: str) -> float | msgspec.Raw:
    """Return a float if it is exactly this number; otherwise the number as it was written."""
    number = float(text)
    try:
        is_exact = Decimal(repr(number)) == Decimal(text)
    except InvalidOperation:  # an exponent beyond all limits
        is_exact = False
    return number if is_exact else msgspec.Raw(text.encode())


_batch_dicts = msgspec.json.Decoder(float_hook=_number)


def _hash_of(command: CreateBatch) -> bytes:
    """Return a hash that is equal for equivalent commands only."""
    batch_dict = None if command.batch_dict is None else _batch_dicts.decode(command.batch_dict)
    body = [str(command.handler), command.operation, command.hash, batch_dict, command.priority]
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

    async def create(self, caller: Caller, parsed: Parsed[CreateBatch]) -> BatchView:
        """Create a batch from an uploaded file, or return the one that this request created."""
        grant = await self._permissions.authorize(caller, "create_batch", parsed)
        command = valid(parsed)
        if self._operations.find(command.operation) is None:
            raise await self._not_in_batches(caller, command.operation)
        operation_grant = await self._permissions.authorize(caller, command.operation, command)
        owner = grant.owner_filter(caller)
        request_hash = _hash_of(command)
        async with self._database.transaction() as connection:
            batch = await self._find_created(connection, caller, owner, command, request_hash)
        if batch is not None:
            return BatchView(batch=batch)
        # Between two transactions: nothing is locked while the storage is queried.
        file = await self._storage.stat(upload_key(caller.account, command.handler))
        async with self._database.transaction() as connection:
            batch = await self._create(
                connection,
                caller,
                owner,
                command,
                request_hash,
                file,
            )
        if batch is None:
            grant.record(caller, exists=False, handler=command.handler)
            raise upload_not_found(command.handler)
        for used_grant in (grant, operation_grant):
            used_grant.record(caller, batch=batch.batch, handler=command.handler)
        return BatchView(batch=batch)

    async def _not_in_batches(self, caller: Caller, operation: str) -> OperationNotAllowed:
        """Return the error, which names only operations that the caller may run."""
        names = [
            name for name in self._operations if await self._permissions.is_allowed(caller, name)
        ]
        text = f"'{operation}' can't be run in batches."
        if not names:
            return OperationNotAllowed(f"{text} Your role may run none that can.")
        return OperationNotAllowed(f"{text} These can: {', '.join(names)}.{hint(operation, names)}")

    async def _find_created(
        self,
        connection: Connection,
        caller: Caller,
        owner: OwnerFilter,
        command: CreateBatch,
        request_hash: bytes,
    ) -> Batch | None:
        created = await table.find_by_handler(connection, caller.account, command.handler, owner)
        if created is None:
            # A key used for another request is reported when it is claimed: 404 comes first.
            return None
        batch, created_by = created
        if created_by != request_hash:
            raise IdempotencyViolation(
                f"The upload {command.handler} has been used for the batch {batch.batch}, with "
                "another body. Upload the file again to create another batch from it."
            )
        await self._claim_key(connection, caller, command, request_hash, batch.batch)
        return batch

    async def _claim_key(
        self,
        connection: Connection,
        caller: Caller,
        command: CreateBatch,
        request_hash: bytes,
        batch: BatchId,
    ) -> None:
        """Claim the idempotency key, if given, for this request. Raises IdempotencyViolation.

        Even if the batch exists already: a key is used once a request with it has succeeded.
        """
        key = command.idempotency_key
        if key is None or await idempotency_keys.claim(
            connection,
            caller.account,
            key,
            request_hash=request_hash,
            batch=batch,
        ):
            return
        used = await idempotency_keys.find(connection, caller.account, key)
        if used is not None and used[0] != request_hash:
            raise IdempotencyViolation(
                "This Idempotency-Key was used for another request. Use a new one."
            )

    async def _create(
        self,
        connection: Connection,
        caller: Caller,
        owner: OwnerFilter,
        command: CreateBatch,
        request_hash: bytes,
        file: ObjectInfo | None,
    ) -> Batch | None:
        """Return the batch; None if there is no such upload in the caller's scope."""
        upload = await uploads.find_for_update(connection, caller.account, command.handler, owner)
        if upload is None:
            return None
        # The upload is locked now: another request for it has either finished or waits.
        created = await self._find_created(connection, caller, owner, command, request_hash)
        if created is not None:
            return created
        if upload.batch is not None:
            raise IdempotencyViolation(
                f"The batch that was created from the upload {command.handler} has been deleted, "
                "or is not yours. Upload the file again."
            )
        if not upload.usable(self._clock.now()):
            raise upload_not_found(command.handler)
        if file is None:
            raise OperationOrderViolation(
                "Nothing has been uploaded yet: PUT the file to the upload's URL first."
            )
        if file.size > self._max_file_bytes:
            raise QuotaViolation(
                f"The file has {file.size} bytes; the limit is {self._max_file_bytes}. Split it."
            )
        # From the count to the commit the account creates no other batch, so neither the limit nor
        # the order of creation times is violated.
        await acquire_for_account(connection, AccountLock.BATCHES, caller.account)
        if self._max_open_batches <= await table.count_open(
            connection, caller.account, limit=self._max_open_batches
        ):
            raise QuotaViolation(
                f"The account has {self._max_open_batches} open batches, which is the limit. "
                "Wait for some to end, or cancel them."
            )
        now = await next_created_ts(connection, caller.account)
        batch = Batch(
            batch=BatchId(self._ids.new()),
            account=caller.account,
            user=caller.user,
            handler=command.handler,
            operation=command.operation,
            status=Status.NEW,
            created_ts=now,
            updated_ts=now,
            hash=command.hash,
            batch_dict=command.batch_dict,
            priority=command.priority,
            attempt=0,
            input_key=None,
            input_problem=None,
            input_size=file.size,
            lines=None,
            download_key=None,
            results=None,
        )
        await self._claim_key(connection, caller, command, request_hash, batch.batch)
        await table.insert(connection, batch, request_hash=request_hash)
        await uploads.set_batch(connection, command.handler, batch.batch, etag=file.etag)
        await jobs.enqueue(connection, batch, [Job(Stage.COPY, batch.batch)])
        return batch
