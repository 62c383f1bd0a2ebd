"""The operations of the API: one row each, from which routes, batch lines and OpenAPI are made."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec

from batchd.domain.errors import (
    AccessForbidden,
    BatchdError,
    IdempotencyViolation,
    InvalidCharacters,
    NotAValidJson,
    NotFound,
    OperationNotAllowed,
    OperationOrderViolation,
    QuotaViolation,
    RequestFormat,
)
from batchd.domain.operations import OperationRequest
from batchd.domain.users import Caller
from batchd.operations import requests, responses
from batchd.services.container import ApiServices


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An operation: its place in HTTP, the form of its parts, and what it does."""

    name: str
    summary: str
    method: str
    path: str
    path_form: type[msgspec.Struct] | None = None
    query_form: type[msgspec.Struct] = requests.NoQuery
    body_form: type[msgspec.Struct] | None = None
    takes_idempotency_key: bool = False
    answer: type[msgspec.Struct]
    success: int = 200
    errors: tuple[type[BatchdError], ...]
    """Those of its own, besides what any call may meet (401, 429, 500, 503)."""
    form: Callable[[OperationRequest], object]
    """Parses the parts; raises what the contract says of malformed requests."""
    act: Callable[[ApiServices, Caller, OperationRequest], Awaitable[msgspec.Struct]]


async def _get_batch(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.BatchResponse:
    view = await services.batches.get(caller, lambda: requests.get_batch(parts))
    return responses.batch(view)


async def _get_batches(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.BatchListResponse:
    page = await services.batches.get_page(caller, lambda: requests.get_batches(parts))
    return responses.batches(page)


async def _create_batch(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.BatchResponse:
    view = await services.creation.create(caller, lambda: requests.create_batch(parts))
    return responses.batch(view)


async def _update_batch(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.BatchResponse:
    view = await services.batches.cancel(caller, lambda: requests.update_batch(parts))
    return responses.batch(view)


async def _delete_batch(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.BatchResponse:
    view = await services.batches.delete(caller, lambda: requests.delete_batch(parts))
    return responses.batch(view)


async def _create_upload_url(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.UploadResponse:
    return responses.upload(await services.uploads.create(caller, lambda: requests.nothing(parts)))


async def _invalidate_upload_url(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.HandlerResponse:
    handler = await services.uploads.invalidate(
        caller, lambda: requests.invalidate_upload_url(parts)
    )
    return responses.handler(handler)


async def _get_user_roles(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.RoleListResponse:
    return responses.roles(await services.roles.get_all(caller, lambda: requests.nothing(parts)))


async def _get_user_role(
    services: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.RoleResponse:
    return responses.role(await services.roles.get(caller, lambda: requests.get_user_role(parts)))


async def _who_am_i(
    _: ApiServices, caller: Caller, parts: OperationRequest
) -> responses.CallerResponse:
    requests.nothing(parts)
    return responses.caller(caller)


_OF_A_BODY = (NotAValidJson, InvalidCharacters, QuotaViolation)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        name="get_batch",
        summary="Look at a batch",
        method="GET",
        path="/batches/{batch}",
        path_form=requests.BatchPath,
        query_form=requests.GetBatchQuery,
        answer=responses.BatchResponse,
        errors=(AccessForbidden, RequestFormat, NotFound),
        form=requests.get_batch,
        act=_get_batch,
    ),
    Endpoint(
        name="get_batches",
        summary="List the account's batches",
        method="GET",
        path="/batches",
        query_form=requests.GetBatchesQuery,
        answer=responses.BatchListResponse,
        errors=(AccessForbidden, RequestFormat),
        form=requests.get_batches,
        act=_get_batches,
    ),
    Endpoint(
        name="create_batch",
        summary="Make a batch of an uploaded file",
        method="POST",
        path="/batches",
        body_form=requests.CreateBatchBody,
        takes_idempotency_key=True,
        answer=responses.BatchResponse,
        success=201,
        errors=(
            AccessForbidden,
            RequestFormat,
            *_OF_A_BODY,
            NotFound,
            IdempotencyViolation,
            OperationOrderViolation,
            OperationNotAllowed,
        ),
        form=requests.create_batch,
        act=_create_batch,
    ),
    Endpoint(
        name="update_batch",
        summary="Cancel a batch",
        method="PATCH",
        path="/batches/{batch}",
        path_form=requests.BatchPath,
        body_form=requests.UpdateBatchBody,
        answer=responses.BatchResponse,
        errors=(
            AccessForbidden,
            RequestFormat,
            *_OF_A_BODY,
            NotFound,
            IdempotencyViolation,
            OperationOrderViolation,
        ),
        form=requests.update_batch,
        act=_update_batch,
    ),
    Endpoint(
        name="delete_batch",
        summary="Delete a batch that is at an end, with its files",
        method="DELETE",
        path="/batches/{batch}",
        path_form=requests.BatchPath,
        answer=responses.BatchResponse,
        errors=(AccessForbidden, RequestFormat, NotFound, OperationOrderViolation),
        form=requests.delete_batch,
        act=_delete_batch,
    ),
    Endpoint(
        name="create_upload_url",
        summary="Get a temporary URL to upload a batch file to",
        method="POST",
        path="/cache",
        answer=responses.UploadResponse,
        success=201,
        errors=(AccessForbidden, RequestFormat),
        form=requests.nothing,
        act=_create_upload_url,
    ),
    Endpoint(
        name="invalidate_upload_url",
        summary="Make an upload URL useless for new batches",
        method="DELETE",
        path="/cache/{handler}",
        path_form=requests.HandlerPath,
        answer=responses.HandlerResponse,
        errors=(AccessForbidden, RequestFormat, NotFound, IdempotencyViolation),
        form=requests.invalidate_upload_url,
        act=_invalidate_upload_url,
    ),
    Endpoint(
        name="get_user_roles",
        summary="See what each role may do",
        method="GET",
        path="/roles",
        answer=responses.RoleListResponse,
        errors=(AccessForbidden, RequestFormat),
        form=requests.nothing,
        act=_get_user_roles,
    ),
    Endpoint(
        name="get_user_role",
        summary="See what a role may do",
        method="GET",
        path="/roles/{role}",
        path_form=requests.RolePath,
        answer=responses.RoleResponse,
        errors=(AccessForbidden, RequestFormat, NotFound),
        form=requests.get_user_role,
        act=_get_user_role,
    ),
    Endpoint(
        name="who_am_i",
        summary="See who you are",
        method="GET",
        path="/whoami",
        answer=responses.CallerResponse,
        errors=(RequestFormat,),
        form=requests.nothing,
        act=_who_am_i,
    ),
)

BY_NAME: Mapping[str, Endpoint] = {endpoint.name: endpoint for endpoint in ENDPOINTS}
