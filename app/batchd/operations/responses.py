"""Responses: the types that are encoded, and that the OpenAPI document is generated from."""

from collections.abc import Iterable
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from batchd.domain.batches import MAX_SAMPLE_LINES, Batch, LineCounts, ResultsFile, Status
from batchd.domain.ids import BatchId, Handler
from batchd.domain.permission import Role
from batchd.domain.ports import SignedUrl
from batchd.domain.users import Caller
from batchd.operations.cursors import encode_cursor
from batchd.operations.explanations import SHA256_PATTERN
from batchd.operations.parsing import to_seconds
from batchd.services.batches import BatchPage, BatchView
from batchd.services.uploads import NewUpload

REQUEST_ID_HEADER = "X-Request-Id"
"""On every response: the id of its request, with which failures are logged."""

_Timestamp = Annotated[float, Meta(description="Seconds since the Unix epoch, to the millisecond.")]
_Count = Annotated[int, Meta(ge=0)]
_Sha256 = Annotated[str, Meta(pattern=SHA256_PATTERN)]


class DownloadResponse(msgspec.Struct, frozen=True):
    """A temporary URL of the results or the validation report; it needs no other credential."""

    validity_ts: Annotated[float, Meta(description="When the URL expires.")]
    url: Annotated[str, Meta(extra_json_schema={"format": "uri"})]


class ProgressResponse(msgspec.Struct, frozen=True):
    """Lines. `total` and `remaining` are null before the file has been validated."""

    total: _Count | None
    succeeded: _Count
    failed: _Count
    cancelled: _Count
    remaining: _Count | None


class ErrorCountResponse(msgspec.Struct, frozen=True):
    """The failed lines with one HTTP status, or the invalid lines with one issue code."""

    count: Annotated[int, Meta(ge=1)]
    lines: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...],
        Meta(max_length=MAX_SAMPLE_LINES, description="Line numbers of the first of them."),
    ]


class HashResponse(msgspec.Struct, frozen=True):
    """The hash given to create_batch, and that of the uploaded file, which differs."""

    given: _Sha256
    found: _Sha256


class ResultsFileResponse(msgspec.Struct, frozen=True):
    size: Annotated[int, Meta(ge=0, description="Bytes.")]
    lines: _Count
    sha256: _Sha256


class BatchResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A batch. `hash` is present if create_batch was given one, as an object after hash_mismatch if
    `expand` names it; `download` if it was requested and there is something to download; and the
    attributes after these if `expand` names them.
    """

    batch: UUID
    created_ts: _Timestamp
    status: Status
    updated_ts: _Timestamp
    hash: _Sha256 | HashResponse | UnsetType = UNSET
    download: DownloadResponse | UnsetType = UNSET
    operation: str | UnsetType = UNSET
    batch_dict: (
        Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})] | UnsetType | None
    ) = UNSET
    priority: int | UnsetType = UNSET
    progress: ProgressResponse | UnsetType = UNSET
    errors: (
        Annotated[
            dict[
                Annotated[str, Meta(pattern="^([1-5][0-9]{2}|[a-z]+(_[a-z]+)*)$")],
                ErrorCountResponse,
            ],
            Meta(description="By HTTP status; after validation_failed, by code of the report."),
        ]
        | UnsetType
    ) = UNSET
    results: ResultsFileResponse | UnsetType | None = UNSET


class BatchListResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    batches: Annotated[
        dict[BatchId, Status],
        Meta(
            description="The status of each batch, newest first; with `ge` alone, oldest first.",
            extra_json_schema={"propertyNames": {"format": "uuid"}},
        ),
    ]
    cursor: (
        Annotated[str, Meta(description="For the next page; absent on the last one.")] | UnsetType
    ) = UNSET


class UploadResponse(msgspec.Struct, frozen=True):
    url: Annotated[str, Meta(extra_json_schema={"format": "uri"})]
    handler: UUID
    validity_ts: _Timestamp


class HandlerResponse(msgspec.Struct, frozen=True):
    handler: UUID


class CallerResponse(msgspec.Struct, frozen=True):
    account: UUID
    user: UUID
    role: str


class StatementResponse(msgspec.Struct, frozen=True):
    """What a role is allowed or denied. A denial overrides every other statement."""

    effect: Literal["allow", "deny"]
    actions: Annotated[
        tuple[str, ...], Meta(min_length=1, description="Names of operations; * means all of them.")
    ]
    account: Annotated[str, Meta(description="The account it applies to; * means every account.")]
    scope: Annotated[
        Literal["any", "own"],
        Meta(description="All batches of the account, or those that the caller created."),
    ]


class RoleResponse(msgspec.Struct, frozen=True):
    """A role. It may do nothing that no statement allows."""

    role: str
    inherits: Annotated[
        tuple[str, ...],
        Meta(description="The roles it inherits from; their statements are among `statements`."),
    ]
    statements: tuple[StatementResponse, ...]


class RoleListResponse(msgspec.Struct, frozen=True):
    roles: Annotated[tuple[RoleResponse, ...], Meta(description="By name.")]


class ErrorResponse(msgspec.Struct, frozen=True):
    subcode: int
    trace: Annotated[str, Meta(description="Unique to this failure; also in the log.")]
    description: Annotated[str, Meta(description="What is wrong and what to do.")]
    help: (
        Annotated[
            str,
            Meta(
                description="Where the error is documented; only if the operator set it.",
                extra_json_schema={"format": "uri"},
            ),
        ]
        | UnsetType
    ) = UNSET


_NO_LINES = LineCounts()


def batch(view: BatchView) -> BatchResponse:
    row = view.batch
    counts = view.counts or _NO_LINES
    expand = view.expand
    return BatchResponse(
        batch=row.batch,
        created_ts=to_seconds(row.created_ts),
        status=row.status,
        updated_ts=to_seconds(row.updated_ts),
        hash=_hash(view),
        download=UNSET if view.download is None else _download(view.download),
        operation=row.operation if "operation" in expand else UNSET,
        batch_dict=_batch_dict(row) if "batch_dict" in expand else UNSET,
        priority=row.priority if "priority" in expand else UNSET,
        progress=_progress(row, counts) if "progress" in expand else UNSET,
        errors=_errors(view, counts) if "errors" in expand else UNSET,
        results=_results(row.results) if "results" in expand else UNSET,
    )


def batches(page: BatchPage) -> BatchListResponse:
    cursor: str | UnsetType = UNSET
    if page.cursor is not None:
        cursor = encode_cursor(page.cursor, oldest_first=page.oldest_first)
    return BatchListResponse(batches=dict(page.batches), cursor=cursor)


def upload(new: NewUpload) -> UploadResponse:
    return UploadResponse(url=new.url, handler=new.handler, validity_ts=to_seconds(new.validity_ts))


def handler(invalidated: Handler) -> HandlerResponse:
    return HandlerResponse(handler=invalidated)


def caller(identity: Caller) -> CallerResponse:
    return CallerResponse(account=identity.account, user=identity.user, role=identity.role)


def role(entry: Role) -> RoleResponse:
    return RoleResponse(
        role=entry.role,
        inherits=entry.inherits,
        statements=tuple(
            StatementResponse(
                effect=statement.effect,
                actions=statement.actions,
                account=statement.account,
                scope=statement.scope,
            )
            for statement in entry.statements
        ),
    )


def roles(entries: Iterable[Role]) -> RoleListResponse:
    return RoleListResponse(roles=tuple(map(role, entries)))


def _download(signed: SignedUrl) -> DownloadResponse:
    return DownloadResponse(validity_ts=to_seconds(signed.validity_ts), url=signed.url)


def _batch_dict(row: Batch) -> msgspec.Raw | None:
    return None if row.batch_dict is None else msgspec.Raw(row.batch_dict)


def _progress(row: Batch, counts: LineCounts) -> ProgressResponse:
    return ProgressResponse(
        total=row.lines,
        succeeded=counts.succeeded,
        failed=counts.failed,
        cancelled=counts.cancelled,
        remaining=None if row.lines is None else row.lines - counts.done,
    )


def _hash(view: BatchView) -> str | HashResponse | UnsetType:
    given = view.batch.hash
    if given is None:
        return UNSET
    upload_hash = None if view.failure is None else view.failure.upload_hash
    if upload_hash is None or "hash" not in view.expand:
        return given
    return HashResponse(given=given, found=upload_hash)


def _errors(view: BatchView, counts: LineCounts) -> dict[str, ErrorCountResponse]:
    failed = {str(status): error for status, error in counts.errors.items()}
    invalid = {} if view.failure is None else view.failure.report_counts
    return {
        name: ErrorCountResponse(count=error.count, lines=error.lines)
        for name, error in {**failed, **invalid}.items()
    }


def _results(results: ResultsFile | None) -> ResultsFileResponse | None:
    if results is None:
        return None
    return ResultsFileResponse(size=results.size, lines=results.lines, sha256=results.sha256)
