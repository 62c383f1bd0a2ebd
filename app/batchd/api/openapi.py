"""The OpenAPI document: made from the table of operations and the types that parse and encode."""

from http import HTTPStatus
from importlib.metadata import version

from batchd.api.openapi_responses import (
    ErrorType,
    failures,
    responses_of,
    shared_headers,
    shared_responses,
    success,
)
from batchd.api.openapi_schemas import Json, StructType, json_body, reference, schemas_of
from batchd.domain.errors import General, ProcessingTimeout
from batchd.operations.requests import MAX_KEY_LENGTH
from batchd.operations.responses import ErrorResponse
from batchd.operations.table import ENDPOINTS, Endpoint

_DESCRIPTION = """\
Upload a file of calls, make a batch of it, and download the answers.

Times are seconds since the Unix epoch, identifiers are UUIDs. Every error is JSON with a `subcode`
from a closed list: act on that; the `description` is for people. A path that is not listed here
answers 404 (404653), a method that is not listed for its path 405 (400897).
"""
_SECURITY_SCHEMES = {
    "secret": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "The user secret, as it is.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The user secret after the word Bearer.",
    },
}

_TEXT = {"type": "string"}


def document() -> dict[str, object]:
    """Return the OpenAPI 3.1 document of the API."""
    paths: Json = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    types = [
        kind for endpoint in ENDPOINTS for kind in (endpoint.answer, endpoint.body_form) if kind
    ]
    return {
        "openapi": "3.1.1",
        "info": {"title": "batchd", "version": version("batchd"), "description": _DESCRIPTION},
        "security": [{name: []} for name in _SECURITY_SCHEMES],
        "paths": {**paths, **_process_paths()},
        "components": {
            "schemas": schemas_of([*types, ErrorResponse]),
            "responses": shared_responses(),
            "headers": shared_headers(),
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _operation(endpoint: Endpoint) -> Json:
    operation: Json = {"operationId": endpoint.name, "summary": endpoint.summary}
    if parameters := _parameters(endpoint):
        operation["parameters"] = parameters
    if endpoint.body_form is not None:
        operation["requestBody"] = {
            "required": True,
            "content": json_body(reference(endpoint.body_form)),
        }
    return {**operation, "responses": responses_of(endpoint)}


def _parameters(endpoint: Endpoint) -> list[Json]:
    parameters = _fields(endpoint.query_form, "query")
    if endpoint.path_form is not None:
        parameters = _fields(endpoint.path_form, "path") + parameters
    if endpoint.takes_idempotency_key:
        key = {
            "type": "string",
            "maxLength": MAX_KEY_LENGTH,
            # Printable ASCII; what is blank around a header's value is no part of it.
            "pattern": "^[!-~]([ -~]*[!-~])?$",
        }
        parameters.append(
            _header("Idempotency-Key", key, "Repeats get the batch that the first call made.")
        )
    if endpoint.method == "GET":
        parameters.append(
            _header("If-None-Match", {"type": "string"}, "The ETag of an answer already here.")
        )
    return parameters


def _fields(form: StructType, place: str) -> list[Json]:
    """Return the fields of a form as parameters."""
    described = schemas_of([form])[form.__name__]
    parameters = []
    for name, schema in described["properties"].items():
        parameter = {"name": name, "in": place, "required": name in described["required"]}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        if schema.get("type") == "boolean":
            parameter["description"] = "Also taken: True, False, 1, 0."
        parameters.append({**parameter, "schema": schema})
    return parameters


def _header(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": schema}


def _process_paths() -> Json:
    """Return what is asked of the process itself; no secret is needed."""
    flags = {"type": "object", "additionalProperties": {"type": "boolean"}}
    policy = _object(revision={"type": ["string", "null"]}, current={"type": "boolean"})
    policy["description"] = "Not `current`: the policy on disk is bad, the last good one decides."
    return {
        "/healthz": _process_path(
            "healthz", "See that the process answers", json_body(_object(status={"const": "alive"}))
        ),
        "/readyz": _process_path(
            "readyz",
            "See whether a request could be served",
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
                **failures((*errors, General)),
            },
        }
    }


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}
