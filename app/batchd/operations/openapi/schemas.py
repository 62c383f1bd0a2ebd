"""The schemas of the OpenAPI document: made from the types that parse and encode."""

from collections.abc import Iterable
from inspect import cleandoc
from typing import Any, TypeAlias

import msgspec

from batchd.domain.batches import Status
from batchd.operations.request_schemas import PATTERN_END

Json: TypeAlias = dict[str, Any]
StructType: TypeAlias = type[msgspec.Struct]


def schemas_of(types: Iterable[StructType]) -> Json:
    """Return the schemas of the types, and of all that they consist of, by name."""
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
    if Status.__name__ in schemas:
        # In the order of a batch's life; msgspec sorts by the alphabet.
        schemas[Status.__name__]["enum"] = [status.value for status in Status]
    return {name: _portable(schema) for name, schema in schemas.items()}


def body_schemas_of(types: Iterable[StructType]) -> Json:
    """Return the schemas of request bodies, whose optional attributes may be null."""
    types = list(types)
    schemas = schemas_of(types)
    for kind in types:
        schema = schemas[kind.__name__]
        for name, attribute in schema["properties"].items():
            if name not in schema["required"]:
                schema["properties"][name] = _nullable(attribute)
    return schemas


def _nullable(schema: Json) -> Json:
    """Return the schema for the same values and null; what describes them stays outside."""
    described: Json = {name: schema[name] for name in ("description", "default") if name in schema}
    values = {name: item for name, item in schema.items() if name not in described}
    return {**described, "anyOf": [values, {"type": "null"}]}


def reference(kind: StructType) -> Json:
    """Return a reference to the schema of a type."""
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def json_body(schema: Json) -> Json:
    """Return the `content` of a request or a response."""
    return {"application/json": {"schema": schema}}


def _portable(schema: Any) -> Any:
    """Leave out of the patterns what only Python needs; some dialects do not know it."""
    if isinstance(schema, dict):
        return {name: _portable(item) for name, item in schema.items()}
    if isinstance(schema, list):
        return [_portable(item) for item in schema]
    return schema.removesuffix(PATTERN_END) if isinstance(schema, str) else schema
