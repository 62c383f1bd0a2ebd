"""The OpenAPI document, generated from the table of operations and their types."""

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version

from batchd.domain.errors import General, ProcessingTimeout
from batchd.operations.openapi.responses import (
    ErrorType,
    error_responses,
    responses_of,
    shared_headers,
    shared_responses,
    success,
)
from batchd.operations.openapi.schemas import (
    Json,
    StructType,
    body_schemas_of,
    json_body,
    reference,
    schemas_of,
)
from batchd.operations.request_schemas import MAX_KEY_LENGTH
from batchd.operations.responses import ErrorResponse
from batchd.operations.table import AnyOperation

_DESCRIPTION = """\
Upload a file of calls, create a batch from it, and download the results.

Times are seconds since the Unix epoch, identifiers are UUIDs. Every error is JSON with a `subcode`
from a closed list, for programs, and a `description`, for people. A path that is not listed here
answers 404 (404653), a method that is not listed for its path 405 (400897), a request whose head is
too large 431 (400589). GET paths answer HEAD as well, every path OPTIONS.
"""
_SECURITY_SCHEMES = {
    "secret": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "The user secret, without a scheme.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The user secret as a bearer token.",
    },
}

_TEXT = {"type": "string"}


def document(operations: Sequence[AnyOperation]) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of an API with these operations."""
    paths: Json = {}
    for operation in operations:
        description = _operation(operation, operations)
        paths.setdefault(operation.path, {})[operation.method.lower()] = description
    responses = [operation.response for operation in operations]
    bodies = [operation.body_schema for operation in operations if operation.body_schema]
    return {
        "openapi": "3.1.1",
        "info": {"title": "batchd", "version": version("batchd"), "description": _DESCRIPTION},
        "security": [{name: []} for name in _SECURITY_SCHEMES],
        "paths": {**paths, **_process_paths()},
        "components": {
            "schemas": schemas_of([*responses, ErrorResponse]) | body_schemas_of(bodies),
            "responses": shared_responses(operations),
            "headers": shared_headers(),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _operation(operation: AnyOperation, operations: Sequence[AnyOperation]) -> Json:
    description: Json = {"operationId": operation.name, "summary": operation.summary}
    if parameters := _parameters(operation):
        description["parameters"] = parameters
    if operation.body_schema is not None:
        description["requestBody"] = {
            "required": True,
            "content": json_body(reference(operation.body_schema)),
        }
    return {**description, "responses": responses_of(operation, operations)}


def _parameters(operation: AnyOperation) -> list[Json]:
    parameters = _fields(operation.query_schema, "query")
    if operation.path_schema is not None:
        parameters = _fields(operation.path_schema, "path") + parameters
    if operation.takes_idempotency_key:
        key = {
            "type": "string",
            "maxLength": MAX_KEY_LENGTH,
            # Printable ASCII; white space around a header's value is not part of it.
            "pattern": "^[!-~]([ -~]*[!-~])?$",
        }
        parameters.append(
            _header("Idempotency-Key", key, "Repeats return the batch that the first call created.")
        )
    if operation.method == "GET":
        parameters.append(_header("If-None-Match", _TEXT, "The ETag of an earlier response."))
    return parameters


def _fields(schema_type: StructType, location: str) -> list[Json]:
    """Return the fields of a type as parameters."""
    schema = schemas_of([schema_type])[schema_type.__name__]
    parameters = []
    for name, field in schema["properties"].items():
        parameter = {"name": name, "in": location, "required": name in schema["required"]}
        if "description" in field:
            parameter["description"] = field.pop("description")
        if field.get("type") == "boolean":
            parameter["description"] = "Also accepted: True, False, 1, 0."
        parameters.append({**parameter, "schema": field})
    return parameters


def _header(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _process_paths() -> Json:
    """Return the paths of the process itself, which need no secret."""
    flags = {"type": "object", "additionalProperties": {"type": "boolean"}}
    policy = _object(revision={"type": ["string", "null"]}, current={"type": "boolean"})
    policy["description"] = (
        "Not `current` while the policy on disk is invalid: the last valid one is active."
    )
    return {
        "/healthz": _process_path(
            "healthz",
            "Check that the process responds",
            json_body(_object(status={"const": "alive"})),
        ),
        "/readyz": _process_path(
            "readyz",
            "Check whether requests can be served",
            json_body(_object(status={"const": "ready"}, checks=flags, policy=policy)),
            ProcessingTimeout,
        ),
        "/metrics": _process_path(
            "metrics", "Get the metrics, for Prometheus", {"text/plain": {"schema": _TEXT}}
        ),
        "/openapi.json": _process_path(
            "openapi", "Get this document", json_body({"type": "object"})
        ),
    }


def _process_path(name: str, summary: str, content: Json, *errors: ErrorType) -> Json:
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "security": [],
            "responses": {
                "200": success(HTTPStatus.OK, content),
                **error_responses((*errors, General)),
            },
        }
    }


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}
