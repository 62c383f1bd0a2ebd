"""The responses of the OpenAPI document: successes, and errors by status with their subcodes."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from inspect import cleandoc
from typing import TypeAlias

from batchd.domain.errors import (
    BatchdError,
    General,
    HeadTooLarge,
    MethodNotAllowed,
    ProcessingTimeout,
    TooFast,
    Unauthorized,
)
from batchd.operations.errors import ERROR_HEADERS
from batchd.operations.openapi.schemas import Json, StructType, json_body, reference
from batchd.operations.responses import REQUEST_ID_HEADER, ErrorResponse
from batchd.operations.table import AnyOperation

ErrorType: TypeAlias = type[BatchdError]

COMMON_ERRORS: tuple[ErrorType, ...] = (Unauthorized, TooFast, General, ProcessingTimeout)
"""What every operation may fail with, besides its own errors."""


def responses_of(operation: AnyOperation, operations: Sequence[AnyOperation]) -> Json:
    """Return every response of an operation, by status."""
    response = success(HTTPStatus(operation.success), json_body(reference(operation.response)))
    responses = {str(operation.success): response}
    if operation.success == HTTPStatus.CREATED:
        response["links"] = _links(operation.response, operations)
    if operation.method == "GET":
        response["headers"] |= _headers("ETag")
        responses[str(HTTPStatus.NOT_MODIFIED)] = {
            "description": "The entity tag still matches.",
            "headers": _headers(REQUEST_ID_HEADER, "ETag"),
        }
    return responses | error_responses((*operation.errors, *COMMON_ERRORS))


def success(status: HTTPStatus, content: Json) -> Json:
    """Return a response with a body."""
    return {
        "description": status.phrase,
        "headers": _headers(REQUEST_ID_HEADER),
        "content": content,
    }


def error_responses(errors: Iterable[ErrorType]) -> Json:
    """Return the responses to these errors by status; each status but 400 has one error."""
    by_status: dict[int, list[ErrorType]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {
        str(status): _error_response(same_status)
        if status == HTTPStatus.BAD_REQUEST
        else {"$ref": f"#/components/responses/{_name(status)}"}
        for status, same_status in sorted(by_status.items())
    }


def shared_responses(operations: Sequence[AnyOperation]) -> Json:
    """Return the responses that `error_responses` refers to, and those that no operation has."""
    errors: set[ErrorType] = {*COMMON_ERRORS, MethodNotAllowed, HeadTooLarge}
    errors.update(error for operation in operations for error in operation.errors)
    return {
        _name(error.status): _error_response([error])
        for error in sorted(errors, key=lambda error: error.status)
        if error.status != HTTPStatus.BAD_REQUEST
    }


def shared_headers() -> Json:
    """Return the headers of the responses."""
    text = {"type": "string"}
    return {
        REQUEST_ID_HEADER: {
            "description": "Identifies this request; a failure is logged under it.",
            "required": True,
            "schema": text,
        },
        "ETag": {
            "description": "For If-None-Match. Absent with a download URL, which may be new.",
            "schema": text,
        },
        **{
            header.name: {
                "description": header.description,
                "required": True,
                "schema": dict(header.schema),
            }
            for header in ERROR_HEADERS.values()
        },
    }


def _error_response(errors: Sequence[ErrorType]) -> Json:
    """Return the response to errors that share a status."""
    headers = [ERROR_HEADERS[error].name for error in errors if error in ERROR_HEADERS]
    subcodes = {"properties": {"subcode": {"enum": [error.subcode for error in errors]}}}
    return {
        "description": "\n".join(
            f"- {error.subcode} `{error.name}`: {_when(error)}" for error in errors
        ),
        "headers": _headers(REQUEST_ID_HEADER, *headers),
        "content": json_body({"allOf": [reference(ErrorResponse), subcodes]}),
    }


def _when(error: ErrorType) -> str:
    """Return the first paragraph of the docstring: the others are for developers."""
    return cleandoc(error.__doc__ or "").partition("\n\n")[0]


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _links(created: StructType, operations: Sequence[AnyOperation]) -> Json:
    """Return the operations whose path takes what the response names."""
    return {
        operation.name: {
            "operationId": operation.name,
            "parameters": {name: f"$response.body#/{name}"},
        }
        for operation in operations
        if operation.path_schema is not None
        for name in operation.path_schema.__struct_fields__
        if name in created.__struct_fields__
    }
