"""The answers in the OpenAPI document: successes, and failures by status with their subcodes."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from inspect import cleandoc
from typing import TypeAlias

from batchd.api.openapi_schemas import Json, StructType, json_body, reference
from batchd.api.responses import TRACE_HEADER
from batchd.domain.errors import (
    BatchdError,
    General,
    MethodNotAllowed,
    ProcessingTimeout,
    TooFast,
    Unauthorized,
)
from batchd.operations.responses import ErrorResponse
from batchd.operations.table import ENDPOINTS, Endpoint

ErrorType: TypeAlias = type[BatchdError]

ANY_CALL: tuple[ErrorType, ...] = (Unauthorized, TooFast, General, ProcessingTimeout)
"""What every operation may fail with, besides its own errors."""


def responses_of(endpoint: Endpoint) -> Json:
    """Return every answer of an operation, by status."""
    response = success(HTTPStatus(endpoint.success), json_body(reference(endpoint.answer)))
    responses = {str(endpoint.success): response}
    if endpoint.success == HTTPStatus.CREATED:
        response["links"] = _links(endpoint.answer)
    if endpoint.method == "GET":
        response["headers"] |= _headers("ETag")
        responses[str(HTTPStatus.NOT_MODIFIED)] = {
            "description": "The caller has this very answer already.",
            "headers": _headers(TRACE_HEADER, "ETag"),
        }
    return responses | failures((*endpoint.errors, *ANY_CALL))


def success(status: HTTPStatus, content: Json) -> Json:
    """Return an answer with a body."""
    return {
        "description": status.phrase,
        "headers": _headers(TRACE_HEADER),
        "content": content,
    }


def failures(errors: Iterable[ErrorType]) -> Json:
    """Return the answers to these errors by status; but for 400, each status has one error."""
    by_status: dict[int, list[ErrorType]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {
        str(status): _failure(found)
        if status == HTTPStatus.BAD_REQUEST
        else {"$ref": f"#/components/responses/{_name(status)}"}
        for status, found in sorted(by_status.items())
    }


def shared_responses() -> Json:
    """Return the answers that `failures` refers to, and the router's to a wrong method."""
    errors: set[ErrorType] = {*ANY_CALL, MethodNotAllowed}
    errors.update(error for endpoint in ENDPOINTS for error in endpoint.errors)
    return {
        _name(error.status): _failure([error])
        for error in sorted(errors, key=lambda error: error.status)
        if error.status != HTTPStatus.BAD_REQUEST
    }


def shared_headers() -> Json:
    """Return the headers of the answers."""
    text = {"type": "string"}
    return {
        TRACE_HEADER: {
            "description": "Names this answer; a failure is in the log under it.",
            "required": True,
            "schema": text,
        },
        "ETag": {
            "description": "For If-None-Match. Not with a download URL: that is new each time.",
            "schema": text,
        },
        "Retry-After": {
            "description": "Seconds to wait before the next try.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        },
        "Allow": {
            "description": "The methods that the path takes.",
            "required": True,
            "schema": text,
        },
    }


def _failure(errors: Sequence[ErrorType]) -> Json:
    """Return the answer to errors that share a status."""
    headers = [TRACE_HEADER]
    if errors[0] in {TooFast, ProcessingTimeout}:
        headers.append("Retry-After")
    if errors[0] is MethodNotAllowed:
        headers.append("Allow")
    subcodes = {"properties": {"subcode": {"enum": [error.subcode for error in errors]}}}
    return {
        "description": "\n".join(
            f"- {error.subcode} `{error.name}`: {_when(error)}" for error in errors
        ),
        "headers": _headers(*headers),
        "content": json_body({"allOf": [reference(ErrorResponse), subcodes]}),
    }


def _when(error: ErrorType) -> str:
    return cleandoc(error.__doc__) if error.__doc__ else ""


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _links(made: StructType) -> Json:
    """Return the operations whose path takes what the answer names."""
    return {
        endpoint.name: {
            "operationId": endpoint.name,
            "parameters": {name: f"$response.body#/{name}"},
        }
        for endpoint in ENDPOINTS
        if endpoint.path_form is not None
        for name in endpoint.path_form.__struct_fields__
        if name in made.__struct_fields__
    }
