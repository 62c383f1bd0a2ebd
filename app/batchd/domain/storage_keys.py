"""The layout of the object storage: clients can write below `uploads/` only, by a presigned URL."""

import hashlib
from uuid import UUID

from batchd.domain.batches import Batch
from batchd.domain.chunks import Chunk
from batchd.domain.ids import AccountId, BatchId, Handler


def upload_key(account: AccountId, handler: Handler) -> str:
    return f"uploads/{account}/{handler}"


def probe_key(worker: UUID) -> str:
    """Return the key that a worker writes to check its access to the storage."""
    return f"batches/probe.{worker}"


def batch_prefix(account: AccountId, batch: BatchId) -> str:
    return f"batches/{account}/{batch}/"


def _prefix(batch: Batch) -> str:
    return batch_prefix(batch.account, batch.batch)


def copy_key(batch: Batch) -> str:
    """Return the key of the uploaded file's copy.

    What a worker writes carries the random fencing token of its claim, which no other claim has.
    """
    return f"{_prefix(batch)}copy.{batch.fencing_token}"


def decompressed_key(batch: Batch) -> str:
    """Return the key of the decompressed lines of a gzip copy."""
    return f"{_prefix(batch)}lines.{batch.fencing_token}"


def part_key(batch: Batch, chunk: Chunk) -> str:
    """Return the key of one chunk's results.

    It identifies the input of the results, so that they can be trusted without the chunk's row.
    """
    return f"{part_prefix(batch, chunk)}{chunk.fencing_token}.{_fingerprint(batch, chunk)}"


def part_prefix(batch: Batch, chunk: Chunk | None = None) -> str:
    """Return how the keys of a chunk's parts begin; without a chunk, those of the whole batch."""
    return f"{_prefix(batch)}parts/" + ("" if chunk is None else f"{chunk.number}.")


def is_part_of(key: str, batch: Batch, chunk: Chunk) -> bool:
    """Return whether the key is that of a part made from exactly the lines of this chunk."""
    return key.startswith(part_prefix(batch, chunk)) and key.endswith(
        f".{_fingerprint(batch, chunk)}"
    )


def _fingerprint(batch: Batch, chunk: Chunk) -> str:
    """Return a hash of the lines' range and of the input file's key, which is never used twice."""
    lines = f"{chunk.start} {chunk.size} {chunk.first_line} {chunk.lines}"
    return hashlib.sha256(f"{require_input_key(batch)} {lines}".encode()).hexdigest()[:32]


def checkpoint_key(batch: Batch, chunk: Chunk) -> str:
    """Return the key of the results of one chunk's finished lines."""
    return f"{part_key(batch, chunk)}.checkpoint"


def results_key(batch: Batch) -> str:
    return f"{_prefix(batch)}results.{batch.fencing_token}.jsonl"


def report_key(batch: Batch) -> str:
    """Return the key of the validation report."""
    return f"{_prefix(batch)}report.{batch.fencing_token}.jsonl"


def require_input_key(batch: Batch) -> str:
    """Return the key of the lines to validate or to run.

    Raises LookupError if the batch has none: a defect once the batch is copied.
    """
    if batch.input_key is None:
        raise LookupError(f"batch {batch.batch} in status {batch.status} has no input file")
    return batch.input_key
