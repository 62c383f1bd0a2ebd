"""Builds the upstream request of a line, and validates the line's parts for it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from yarl import URL

from batchd.domain.operations import OperationRequest, ValidationIssue
from batchd.domain.suggestions import hint
from batchd.plugins.http_operations.body_schema import new_issue
from batchd.plugins.http_operations.parameter_types import ParameterType, find_mismatch
from batchd.plugins.http_operations.schema import OperationSchema
from batchd.plugins.http_operations.url_template import (
    encode,
    find_hazard,
    needs_no_encoding,
)

_PATH_TYPE: ParameterType = "identifier"
_SCALAR = "must be a string, a number or a boolean"


def validate(schema: OperationSchema, request: OperationRequest) -> list[ValidationIssue]:
    """Return every issue of a line with these parts."""
    return [
        *_path_issues(schema, request.path),
        *_query_issues(schema, request.query),
        *_body_issues(schema, request.body),
    ]


def build_url(schema: OperationSchema, request: OperationRequest) -> URL:
    """Return the URL for parts without issues."""
    template = schema.url
    path = template.path({name: _text(value) or "" for name, value in request.path.items()})
    parameters = [template.query] if template.query else []
    for name, value in request.query.items():
        parameters += [f"{encode(name)}={encode(_text(item) or '')}" for item in _items(value)]
    query = f"?{'&'.join(parameters)}" if parameters else ""
    # Already encoded: nothing may be decoded, encoded or resolved again.
    return URL(f"{template.origin}{path}{query}", encoded=True)


def _path_issues(schema: OperationSchema, path: Mapping[str, object]) -> Iterator[ValidationIssue]:
    template = schema.url
    names = template.names
    if (
        template.is_literal
        and not schema.types
        and path.keys() == names
        and all(_is_plain_text(value) for value in path.values())
    ):
        return
    yield from (new_issue("It is missing.", "path", name) for name in sorted(names - path.keys()))
    values: dict[str, str] = {}
    for name, value in path.items():
        text = _text(value)
        if name not in names:
            yield new_issue(_no_such_parameter(name, names), "path", name)
        elif text is None:
            yield new_issue(f"It {_SCALAR}{_not_null(value)}.", "path", name)
        elif not text:
            yield new_issue("It is empty.", "path", name)
        elif mismatch := find_mismatch(value, text, schema.types.get(name, _PATH_TYPE)):
            yield new_issue(mismatch, "path", name)
        elif hazard := find_hazard(text):
            yield new_issue(f"It must not contain {hazard}.", "path", name)
        else:
            values[name] = text
    if values.keys() == names and (hazard := find_hazard(template.path(values))):
        yield new_issue(f"Together the values form {hazard}.", "path")


def _query_issues(
    schema: OperationSchema, query: Mapping[str, object]
) -> Iterator[ValidationIssue]:
    for name, value in query.items():
        if name not in schema.query:
            yield new_issue(_no_such_parameter(name, schema.query), "query", name)
        elif value is None:
            yield new_issue("It must not be null: leave it out.", "query", name)
        elif any(_text(item) is None for item in _items(value)):
            yield new_issue(f"It {_SCALAR}, or a list of these.", "query", name)
        elif (kind := schema.types.get(name)) is not None:
            mismatches = (find_mismatch(item, _text(item) or "", kind) for item in _items(value))
            if mismatch := next(filter(None, mismatches), None):
                yield new_issue(mismatch, "query", name)


def _body_issues(schema: OperationSchema, body: object) -> Sequence[ValidationIssue]:
    if schema.body is None:
        return [] if body is None else [new_issue("This operation accepts no body.", "body")]
    if not isinstance(body, bytes):
        return [new_issue("It is missing.", "body")]
    return schema.body.validate(body)


def _no_such_parameter(name: str, names: Iterable[str]) -> str:
    return f"There is no such parameter.{hint(name, sorted(names))}"


def _not_null(value: object) -> str:
    return ", not null" if value is None else ""


def _is_plain_text(value: object) -> bool:
    return isinstance(value, str) and needs_no_encoding(value)


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else (value,)


def _text(value: object) -> str | None:
    """Return the value as text for a URL; None if it is not a scalar."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case _:
            return None
