"""Why a batch ended before its lines ran: a mismatch of hashes, or invalid lines."""

from collections.abc import Mapping

import msgspec

from batchd.db.connection import Connection
from batchd.domain.batches import BatchFailure, ErrorCount
from batchd.domain.ids import BatchId

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[str, ErrorCount])

_SET_UPLOAD_HASH = "UPDATE batches SET found_hash = $2 WHERE batch = $1"


async def set_upload_hash(connection: Connection, batch: BatchId, sha256: str) -> None:
    await connection.execute(_SET_UPLOAD_HASH, batch, sha256)


_SET_REPORT_COUNTS = "UPDATE batches SET report_counts = $2 WHERE batch = $1"


async def set_report_counts(
    connection: Connection, batch: BatchId, counts: Mapping[str, ErrorCount]
) -> None:
    """Record the invalid lines by code of the validation report."""
    await connection.execute(_SET_REPORT_COUNTS, batch, _encoder.encode(counts).decode())


_FIND = "SELECT found_hash, report_counts FROM batches WHERE batch = $1"


async def find(connection: Connection, batch: BatchId) -> BatchFailure:
    """Return why the batch ended before its lines ran; empty if it did not."""
    row = await connection.fetchrow(_FIND, batch)
    if row is None:
        return BatchFailure()
    return BatchFailure(
        upload_hash=row["found_hash"], report_counts=_decoder.decode(row["report_counts"])
    )
