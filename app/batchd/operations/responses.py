"""The answers as they go out: these types are encoded, and the OpenAPI document is made of them."""

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
from batchd.operations.parsing import SHA256_PATTERN, to_seconds
from batchd.operations.requests import encode_cursor
from batchd.services.batches import BatchPage, BatchView
from batchd.services.uploads import NewUpload

_Timestamp = Annotated[float, Meta(description="Seconds since the Unix epoch, to the millisecond.")]
_Count = Annotated[int, Meta(ge=0)]
_Sha256 = Annotated[str, Meta(pattern=SHA256_PATTERN)]


class DownloadResponse(msgspec.Struct, frozen=True):
    """Where to get the results or the validation report, without any other credential."""

    validity_ts: Annotated[float, Meta(description="When the URL stops working.")]
    url: Annotated[str, Meta(extra_json_schema={"format": "uri"})]


class ProgressResponse(msgspec.Struct, frozen=True):
    """Lines. `total` and `remaining` are null before the file has been validated."""

    total: _Count | None
    succeeded: _Count
    failed: _Count
    cancelled: _Count
    remaining: _Count | None


class ErrorCountResponse(msgspec.Struct, frozen=True):
    """The failed lines with one HTTP status."""

    count: Annotated[int, Meta(ge=1)]
    lines: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...],
        Meta(max_length=MAX_SAMPLE_LINES, description="The numbers of the first ones."),
    ]


class ResultsFileResponse(msgspec.Struct, frozen=True):
    size: Annotated[int, Meta(ge=0, description="Bytes.")]
    lines: _Count
    sha256: _Sha256


class BatchResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """A batch. `hash` is there if one was given, `download` if it was asked for and there is one.

    The attributes after these are there if `expand` names them.
    """

    batch: UUID
    created_ts: _Timestamp
    status: Status
    updated_ts: _Timestamp
    hash: _Sha256 | UnsetType = UNSET
    download: DownloadResponse | UnsetType = UNSET
    operation: str | UnsetType = UNSET
    batch_dict: (
        Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})] | UnsetType | None
    ) = UNSET
    priority: int | UnsetType = UNSET
    progress: ProgressResponse | UnsetType = UNSET
    errors: (
        Annotated[
            dict[Annotated[str, Meta(pattern="^[1-5][0-9]{2}$")], ErrorCountResponse],
            Meta(description="By HTTP status."),
        ]
        | UnsetType
    ) = UNSET
    results: ResultsFileResponse | UnsetType | None = UNSET


class BatchListResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    batches: Annotated[
        dict[BatchId, Status],
        Meta(
            description="The statuses by batch, newest first; with `ge` alone oldest first.",
            extra_json_schema={"propertyNames": {"format": "uuid"}},
        ),
    ]
    cursor: Annotated[str, Meta(description="For the next page, if there is one.")] | UnsetType = (
        UNSET
    )


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
    """What a role is allowed, or denied. What is denied is not allowed by any other statement."""

    effect: Literal["allow", "deny"]
    actions: Annotated[
        tuple[str, ...], Meta(min_length=1, description="Names of operations; * is all of them.")
    ]
    account: Annotated[str, Meta(description="Where it holds; * is every account.")]
    scope: Annotated[
        Literal["any", "own"],
        Meta(description="On which batches: all of the account, or those that the caller made."),
    ]


class RoleResponse(msgspec.Struct, frozen=True):
    """A role. What no statement of it allows, it may not do."""

    role: str
    inherits: Annotated[
        tuple[str, ...],
        Meta(description="The roles whose statements it has; these are among `statements`."),
    ]
    statements: tuple[StatementResponse, ...]


class RoleListResponse(msgspec.Struct, frozen=True):
    roles: Annotated[tuple[RoleResponse, ...], Meta(description="By name.")]


class ErrorResponse(msgspec.Struct, frozen=True):
    subcode: int
    trace: Annotated[str, Meta(description="Unique to this failure; also in the log.")]
    description: Annotated[str, Meta(description="What is wrong and what to do.")]


_NOTHING_DONE = LineCounts()


def batch(view: BatchView) -> BatchResponse:
    shown = view.batch
    tally = view.tally or _NOTHING_DONE
    expand = view.expand
    return BatchResponse(
        batch=shown.batch,
        created_ts=to_seconds(shown.created_ts),
        status=shown.status,
        updated_ts=to_seconds(shown.updated_ts),
        hash=UNSET if shown.hash is None else shown.hash,
        download=UNSET if view.download is None else _download(view.download),
        operation=shown.operation if "operation" in expand else UNSET,
        batch_dict=_batch_dict(shown) if "batch_dict" in expand else UNSET,
        priority=shown.priority if "priority" in expand else UNSET,
        progress=_progress(shown, tally) if "progress" in expand else UNSET,
        errors=_errors(tally) if "errors" in expand else UNSET,
        results=_results(shown.results) if "results" in expand else UNSET,
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


def caller(who: Caller) -> CallerResponse:
    return CallerResponse(account=who.account, user=who.user, role=who.role)


def role(shown: Role) -> RoleResponse:
    return RoleResponse(
        role=shown.role,
        inherits=shown.inherits,
        statements=tuple(
            StatementResponse(
                effect=statement.effect,
                actions=statement.actions,
                account=statement.account,
                scope=statement.scope,
            )
            for statement in shown.statements
        ),
    )


def roles(shown: Iterable[Role]) -> RoleListResponse:
    return RoleListResponse(roles=tuple(map(role, shown)))


def _download(signed: SignedUrl) -> DownloadResponse:
    return DownloadResponse(validity_ts=to_seconds(signed.validity_ts), url=signed.url)


def _batch_dict(shown: Batch) -> msgspec.Raw | None:
    return None if shown.batch_dict is None else msgspec.Raw(shown.batch_dict)


def _progress(shown: Batch, tally: LineCounts) -> ProgressResponse:
    return ProgressResponse(
        total=shown.lines,
        succeeded=tally.succeeded,
        failed=tally.failed,
        cancelled=tally.cancelled,
        remaining=None if shown.lines is None else shown.lines - tally.done,
    )


def _errors(tally: LineCounts) -> dict[str, ErrorCountResponse]:
    return {
        str(status): ErrorCountResponse(count=found.count, lines=found.lines)
        for status, found in tally.errors.items()
    }


def _results(results: ResultsFile | None) -> ResultsFileResponse | None:
    if results is None:
        return None
    return ResultsFileResponse(size=results.size, lines=results.lines, sha256=results.sha256)
