"""The field types of the operations file: each value is validated and converted for use."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo

from batchd.plugins.http_operations.body_schema import BodySchema
from batchd.plugins.http_operations.statuses import parse_statuses
from batchd.plugins.http_operations.url_template import UrlTemplate, parse_template
from batchd.plugins.http_operations.variables import expand, has_reference

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_SET_BY_BATCHD = {"accept-encoding", "content-length", "expect", "host", "idempotency-key"}
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_SECRET = {"api-key", "authorization", "cookie", "proxy-authorization", "x-api-key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsingContext:
    """What the validators need besides the values."""

    variables: Mapping[str, str]
    is_reserved: Callable[[str], bool]
    """Whether an operation must not have this name."""
    read_file: Callable[[str], bytes]
    """Reads a file by its path relative to the folder of the operations file. Raises OSError."""


def _context(info: ValidationInfo) -> ParsingContext:
    return cast(ParsingContext, info.context)


def _name(name: str, info: ValidationInfo) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name consists of 1 to 64 of a-z, 0-9 and _, and starts with no digit")
    if _context(info).is_reserved(name):
        raise ValueError("the name is that of an operation or permission of batchd itself")
    return name


def _template(text: str, info: ValidationInfo) -> UrlTemplate:
    # A base URL may end with a slash, and the path starts with one.
    variables = _context(info).variables
    return parse_template(expand(text, lambda name: variables.get(name, "").rstrip("/")))


def _url(value: object, info: ValidationInfo) -> UrlTemplate:
    match value:
        case str():
            return _template(value, info)
        case _:
            raise ValueError("must be a URL, with {name} for each path parameter")


def _body(value: object, info: ValidationInfo) -> BodySchema:
    match value:
        case dict():
            return BodySchema(value)
        case str():
            try:
                return BodySchema(_parse_object(_context(info).read_file(value)))
            except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
                raise ValueError(f"{value}: {error}") from None
        case _:
            raise ValueError("must be a JSON Schema as a table, or the path of a schema file")


def _parse_object(content: bytes) -> dict[str, Any]:
    return msgspec.json.decode(content.decode(), type=dict[str, Any])


def _header_name(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError("not a valid header name")
    if name.lower() in _SET_BY_BATCHD | _HOP_BY_HOP:
        raise ValueError("this header can't be set by the file")
    return name


def _header_value(text: str, info: ValidationInfo) -> str:
    variables = _context(info).variables
    value = expand(text, lambda name: variables.get(name, ""))
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError("must be printable ASCII without leading or trailing spaces")
    return value


def _headers(headers: object) -> object:
    if isinstance(headers, dict):
        if len({name.lower() for name in headers}) != len(headers):
            raise ValueError("a header is given twice")
        for name, value in headers.items():
            if name.lower() in _SECRET and isinstance(value, str) and not has_reference(value):
                raise ValueError(f"{name} holds a secret: use a variable reference, ${{NAME}}")
    return headers


Name = Annotated[str, AfterValidator(_name)]
Url = Annotated[UrlTemplate, PlainValidator(_url)]
Query = list[Annotated[str, Field(min_length=1, max_length=64)]]
Body = Annotated[BodySchema, PlainValidator(_body)]
Headers = Annotated[
    dict[
        Annotated[str, AfterValidator(_header_name)], Annotated[str, AfterValidator(_header_value)]
    ],
    BeforeValidator(_headers),
]
Statuses = Annotated[frozenset[int], PlainValidator(parse_statuses)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
