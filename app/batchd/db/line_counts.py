"""How a tally stands in a row: four columns, the errors as JSON."""

from collections.abc import Mapping

import asyncpg
import msgspec

from batchd.domain.batches import StatusErrors, Tally

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(dict[int, StatusErrors])


def encode_errors(errors: Mapping[int, StatusErrors]) -> str:
    """Return `{"<status>": {"count": …, "lines": […]}}`."""
    return _encoder.encode(errors).decode()


def decode_errors(text: str) -> Mapping[int, StatusErrors]:
    return _decoder.decode(text)


def decode(row: asyncpg.Record) -> Tally:
    """Read the columns succeeded, failed, cancelled and errors."""
    return Tally(
        succeeded=row["succeeded"],
        failed=row["failed"],
        cancelled=row["cancelled"],
        errors=decode_errors(row["errors"]),
    )
