"""From the parts of a line to the request that it stands for, and what is wrong with them."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from yarl import URL

from batchd.domain.operations import OperationRequest, ValidationIssue
from batchd.plugins.http_operations.body_schema import problem
from batchd.plugins.http_operations.schema import OperationSchema
from batchd.plugins.http_operations.url_template import climbs, encode, is_plain

_SCALAR = "must be a text, a number, true or false"


def problems_of(declaration: OperationSchema, parts: OperationRequest) -> list[ValidationIssue]:
    """Return all that a line with these parts is refused for."""
    return [
        *_path_problems(declaration, parts.path),
        *_query_problems(declaration, parts.query),
        *_body_problems(declaration, parts.body),
    ]


def url_of(declaration: OperationSchema, parts: OperationRequest) -> URL:
    """Return where parts without a problem lead."""
    template = declaration.url
    path = template.path({name: _text(value) or "" for name, value in parts.path.items()})
    queries = [template.query] if template.query else []
    for name, value in parts.query.items():
        queries += [f"{encode(name)}={encode(_text(item) or '')}" for item in _items(value)]
    query = f"?{'&'.join(queries)}" if queries else ""
    # As it is: nothing is to be decoded, encoded or resolved once more.
    return URL(f"{template.origin}{path}{query}", encoded=True)


def _path_problems(
    declaration: OperationSchema, path: Mapping[str, object]
) -> Iterator[ValidationIssue]:
    names = declaration.url.names
    if path.keys() == names and all(_is_plain(value) for value in path.values()):
        return
    yield from (problem("It is missing.", "path", name) for name in sorted(names - path.keys()))
    values: dict[str, str] = {}
    for name, value in path.items():
        text = _text(value)
        if name not in names:
            yield problem("There is no such parameter.", "path", name)
        elif text is None:
            yield problem(f"It {_SCALAR}.", "path", name)
        elif not text:
            yield problem("It is empty.", "path", name)
        elif climbs(text):
            yield problem("It must not have '.' or '..' between slashes.", "path", name)
        else:
            values[name] = text
    if values.keys() == names and climbs(declaration.url.path(values)):
        yield problem("Together they make a '.' or '..' between slashes.", "path")


def _query_problems(
    declaration: OperationSchema, query: Mapping[str, object]
) -> Iterator[ValidationIssue]:
    for name, value in query.items():
        if name not in declaration.query:
            yield problem("There is no such parameter.", "query", name)
        elif any(_text(item) is None for item in _items(value)):
            yield problem(f"It {_SCALAR}, or a list of these.", "query", name)


def _body_problems(declaration: OperationSchema, body: object) -> Sequence[ValidationIssue]:
    if declaration.body is None:
        return [] if body is None else [problem("This operation takes no body.", "body")]
    if not isinstance(body, Mapping):
        return [problem("It is missing.", "body")]
    return declaration.body.problems(body)


def _is_plain(value: object) -> bool:
    return isinstance(value, str) and is_plain(value)


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else (value,)


def _text(value: object) -> str | None:
    """Return the value as it is written in a URL; None if it is none that could be."""
    match value:
        case str():
            return value
        case bool() | int() | float():
            return msgspec.json.encode(value).decode()
        case _:
            return None
