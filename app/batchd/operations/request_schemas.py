"""Request schemas: a type for the path, the query and the body of each operation.

`requests` parses with them, and the OpenAPI document is generated from them.
"""

from collections.abc import Iterable
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from batchd.domain.batches import Status
from batchd.operations.explanations import (
    EXPECTED,
    KEY_PATTERN,
    LIST,
    SHA256_PATTERN,
    UUID_PATTERN,
)

EXPANDABLE = ("operation", "batch_dict", "priority", "progress", "errors", "results", "hash")
MAX_PRIORITY = 100
MAX_PAGE = 1000
MAX_KEY_LENGTH = 255
_MAX_SECONDS = 253_402_300_799  # the end of the year 9999
PATTERN_END = r"(?!\n)"
"""Follows a pattern's `$`, which in Python also matches before a final line break."""
_UP_TO_64_CHARACTERS = "text of 1 to 64 characters"


def _list_of(names: Iterable[str]) -> str:
    """Return the pattern of a comma-separated list, for OpenAPI only: it is parsed by hand."""
    choices = "|".join(names)
    return f"^({choices})(,({choices}))*$"


_Uuid = Annotated[
    str,
    Meta(
        pattern=UUID_PATTERN + PATTERN_END,
        extra_json_schema={"format": "uuid"},
        examples=[str(UUID(int=0))],
        extra={EXPECTED: "a UUID in its canonical form"},
    ),
]
_Timestamp = Annotated[
    float,
    Meta(
        ge=0,
        le=_MAX_SECONDS,
        description="Seconds since the Unix epoch.",
        extra={EXPECTED: "seconds (not milliseconds) since the Unix epoch, for example 1767225600"},
    ),
]


class BatchPath(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    batch: _Uuid


class HandlerPath(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    handler: _Uuid


class RolePath(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    role: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            examples=["reader"],
            extra={EXPECTED: _UP_TO_64_CHARACTERS},
            extra_json_schema={"pattern": r"^[^ \t\r\n]([\s\S]*[^ \t\r\n])?$"},
        ),
    ]


class NoQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


class GetBatchQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    download: bool = False
    expand: Annotated[
        str,
        Meta(
            description=f"Attributes to add, comma-separated: {', '.join(EXPANDABLE)}.",
            examples=["progress,errors"],
            extra={LIST: True},
            extra_json_schema={"pattern": f"^$|{_list_of(EXPANDABLE)}"},
        ),
    ] = ""


class GetBatchesQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    limit: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_PAGE,
            description="Maximum number of batches in the page.",
            extra={EXPECTED: f"a whole number from 1 to {MAX_PAGE}"},
        ),
    ] = MAX_PAGE
    cursor: (
        Annotated[
            str, Meta(description="From the previous page; all other parameters must be the same.")
        ]
        | UnsetType
    ) = UNSET
    ge: (
        Annotated[
            _Timestamp,
            Meta(description="Created at this time or later; without `le`, oldest first."),
        ]
        | UnsetType
    ) = UNSET
    le: Annotated[_Timestamp, Meta(description="Created at this time or earlier.")] | UnsetType = (
        UNSET
    )
    status: (
        Annotated[
            str,
            Meta(
                description="One or several statuses, comma-separated.",
                examples=["completed,cancelled"],
                extra={LIST: True},
                extra_json_schema={"pattern": _list_of(Status)},
            ),
        ]
        | UnsetType
    ) = UNSET


class CreateBatchBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    handler: _Uuid
    operation: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            description="The operation that each line is a call of.",
            extra={EXPECTED: _UP_TO_64_CHARACTERS},
        ),
    ]
    hash: (
        Annotated[
            str,
            Meta(
                pattern=SHA256_PATTERN + PATTERN_END,
                description="SHA-256 of the file; if it differs, the batch ends as hash_mismatch.",
                extra={EXPECTED: "a SHA-256 of 64 lower-case hexadecimal digits"},
            ),
        ]
        | UnsetType
    ) = UNSET
    batch_dict: (
        Annotated[
            msgspec.Raw,
            Meta(
                description="The caller's own attributes, returned as written by expand.",
                extra_json_schema={
                    "type": "object",
                    "propertyNames": {"pattern": KEY_PATTERN},
                },
            ),
        ]
        | UnsetType
    ) = UNSET
    priority: Annotated[
        float,  # 1.0 is an integer in JSON Schema
        Meta(
            ge=-MAX_PRIORITY,
            le=MAX_PRIORITY,
            multiple_of=1,
            description="Higher priorities run first among the batches of the account.",
            extra={EXPECTED: f"a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}"},
        ),
    ] = 0


class UpdateBatchBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    status: Literal["cancel"]
