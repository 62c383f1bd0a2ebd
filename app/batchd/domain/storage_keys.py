"""Where things are in the storage. Clients can write to `uploads/` only, by a signed URL."""

from batchd.domain.batches import Batch
from batchd.domain.ids import AccountId, Handler


def upload_key(account: AccountId, handler: Handler) -> str:
    return f"uploads/{account}/{handler}"


def batch_prefix(batch: Batch) -> str:
    return f"batches/{batch.account}/{batch.batch}/"


def copy_key(batch: Batch) -> str:
    """The upload as it came. Keys carry the attempt: no worker writes over its successor."""
    return f"{batch_prefix(batch)}copy.{batch.attempt}"


def unpacked_key(batch: Batch) -> str:
    """The lines of a copy that is compressed."""
    return f"{batch_prefix(batch)}lines.{batch.attempt}"


def part_key(batch: Batch, no: int, token: int) -> str:
    """The results of one chunk."""
    return f"{batch_prefix(batch)}parts/{no}.{token}"


def results_key(batch: Batch) -> str:
    return f"{batch_prefix(batch)}results.{batch.attempt}.jsonl"


def report_key(batch: Batch) -> str:
    """The validation report."""
    return f"{batch_prefix(batch)}report.{batch.attempt}.jsonl"


def input_of(batch: Batch) -> str:
    """The lines to check or to run. A batch that has got so far has them."""
    if batch.input_key is None:
        raise LookupError(f"{batch.batch} is {batch.status} without a copy")
    return batch.input_key
