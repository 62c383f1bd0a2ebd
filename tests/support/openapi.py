"""The OpenAPI document, to validate responses against."""

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from batchd.operations.openapi.document import document
from batchd.operations.table import OPERATIONS

METHODS = {"delete", "get", "head", "options", "patch", "post", "put", "trace"}


def strict_document() -> dict[str, Any]:
    """Return the document with closed objects: a response with an extra attribute is invalid."""
    strict: dict[str, Any] = copy.deepcopy(document(OPERATIONS))
    for node in nodes(strict):
        if node.get("type") == "object" and "properties" in node:
            node.setdefault("additionalProperties", False)
    return strict


def nodes(value: object) -> Iterator[dict[str, Any]]:
    """Walk the objects in JSON."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Walk the operations: method, path, description."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield method.upper(), path, operation


def validator(schema_name: str) -> jsonschema_rs.Draft202012Validator:
    """Return a validator of values against a schema of the document."""
    return jsonschema_rs.Draft202012Validator(
        {
            "$ref": f"#/components/schemas/{schema_name}",
            "components": strict_document()["components"],
        },
        validate_formats=True,
    )
