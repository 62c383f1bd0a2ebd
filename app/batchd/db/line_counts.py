"""Line counts as database columns: three numbers, and the errors as JSON."""

from collections.abc import Mapping

import asyncpg
import msgspec

from batchd.domain.batches import ErrorCount, LineCounts

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[int, ErrorCount])


def encode_errors(errors: Mapping[int, ErrorCount]) -> str:
    """Return `{"<status>": {"count": …, "lines": […]}}`."""
    return _encoder.encode(errors).decode()


def decode_errors(text: str) -> Mapping[int, ErrorCount]:
    return _decoder.decode(text)


def decode(row: asyncpg.Record) -> LineCounts:
    """Decode the columns succeeded, failed, cancelled and errors."""
    return LineCounts(
        succeeded=row["succeeded"],
        failed=row["failed"],
        cancelled=row["cancelled"],
        errors=decode_errors(row["errors"]),
    )
