"""The values of the file, each checked and brought into the form that it is used in."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo

from batchd.plugins.http_operations.body_schema import BodySchema
from batchd.plugins.http_operations.statuses import parse_statuses
from batchd.plugins.http_operations.url_template import Template, parse_template
from batchd.plugins.http_operations.variables import expand, refers

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_OURS = {"accept-encoding", "content-length", "expect", "host", "idempotency-key"}
_HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_SECRET = {"api-key", "authorization", "cookie", "proxy-authorization", "x-api-key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a file is read with."""

    variables: Mapping[str, str]
    taken: Callable[[str], bool]
    read: Callable[[str], bytes]
    """Reads a file by its path, relative to the operations file's folder. Raises OSError."""


def _surroundings(info: ValidationInfo) -> Surroundings:
    return cast(Surroundings, info.context)


def _name(name: str, info: ValidationInfo) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 of a-z, 0-9 and _, and does not begin with a digit")
    if _surroundings(info).taken(name):
        raise ValueError("batchd has an operation, and so a permission, of this name already")
    return name


def _template(text: str, info: ValidationInfo) -> Template:
    # A base URL may end with a slash: that of the path follows.
    variables = _surroundings(info).variables
    return parse_template(expand(text, lambda name: variables.get(name, "").rstrip("/")))


def _url(value: object, info: ValidationInfo) -> Template:
    match value:
        case str():
            return _template(value, info)
        case _:
            raise ValueError("must be a URL, with {name} for the parameters of its path")


def _body(value: object, info: ValidationInfo) -> BodySchema:
    match value:
        case dict():
            return BodySchema(value)
        case str():
            try:
                return BodySchema(_object(_surroundings(info).read(value)))
            except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
                raise ValueError(f"{value}: {error}") from None
        case _:
            raise ValueError("must be a JSON Schema as a table, or the path of a file with one")


def _object(content: bytes) -> dict[str, Any]:
    return msgspec.json.decode(content.decode(), type=dict[str, Any])


def _header_name(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError("not the name of a header")
    if name.lower() in _OURS | _HOP_BY_HOP:
        raise ValueError("this header is not the file's to set")
    return name


def _header_value(text: str, info: ValidationInfo) -> str:
    variables = _surroundings(info).variables
    value = expand(text, lambda name: variables.get(name, ""))
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise ValueError("must be printable ASCII, without a space before or after it")
    return value


def _headers(headers: object) -> object:
    if isinstance(headers, dict):
        if len({name.lower() for name in headers}) != len(headers):
            raise ValueError("a header is given twice")
        for name, value in headers.items():
            if name.lower() in _SECRET and isinstance(value, str) and not refers(value):
                raise ValueError(f"{name} holds a secret: refer to a variable, as ${{NAME}}")
    return headers


Name = Annotated[str, AfterValidator(_name)]
Url = Annotated[Template, PlainValidator(_url)]
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
