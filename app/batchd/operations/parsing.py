"""Converts the parts of a request to valid values: the same for HTTP and for batch lines."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from batchd.domain.errors import BatchdError, InvalidCharacters, NotAValidJson
from batchd.domain.json_text import (
    describe_error,
    foreign_encoding,
    has_unique_names,
    parse_syntax,
    quoted,
    repeated_names,
)
from batchd.domain.operations import OperationRequest
from batchd.operations.explanations import (
    InvalidRequest,
    expectation,
    explain,
    is_list,
    null,
    optional_names,
)

T = TypeVar("T")
V = TypeVar("V")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_SPACES = " \t\r\n"
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"

# JSON booleans as well, for batch lines; 1 and 0 are equal to them as keys.
_BOOLEANS: Mapping[object, bool] = {
    True: True,
    False: False,
    "true": True,
    "True": True,
    "1": True,
    "false": False,
    "False": False,
    "0": False,
}


def read_path(request: OperationRequest, schema: type[T]) -> T:
    return _convert(request.path, schema, "/path")


def read_query(request: OperationRequest, schema: type[T]) -> T:
    return _convert(request.query, schema, "/query")


def read_body(request: OperationRequest, schema: type[T]) -> T:
    """Raises NotAValidJson, InvalidCharacters, InvalidRequest, or the error in the body's place."""
    body = request.body
    if isinstance(body, BatchdError):
        raise body
    if body is None:
        raise InvalidRequest("/body", "It is missing.")
    return _decode(body, schema)


def read_object(text: bytes, schema: type[T], pointer: str) -> T:
    """Convert the JSON text of a part that was kept as written. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(text, type=schema)
    except msgspec.ValidationError as error:
        raise explain(str(error), pointer) from None


def _decode(body: bytes, schema: type[T]) -> T:
    """Convert a body; what the schema declares as `msgspec.Raw` is kept as written."""
    # As in a batch file, a byte order mark at the start is not part of the text.
    skipped = len(_BOM) if body.startswith(_BOM) else 0
    if encoding := foreign_encoding(body):
        raise InvalidCharacters(f"The body is {encoding}, not UTF-8.")
    if body.startswith(_GZIP):
        raise InvalidCharacters("The body is compressed: send Content-Encoding: gzip with it.")
    text = body[skipped:]
    try:
        text.decode()
    except UnicodeDecodeError as error:
        position = error.start + 1 + skipped
        raise InvalidCharacters(f"Byte {position} of the body is not UTF-8.") from None
    try:
        value = _parse(text)
        if not has_unique_names(text):
            pointer, name = next(repeated_names(parse_syntax(text), "/body"))
            message = f"'{quoted(name)}' is given twice in one object: leave one of them out."
            raise InvalidRequest(pointer, message)
    except RecursionError:
        raise NotAValidJson("The body is nested too deeply.") from None
    except msgspec.MsgspecError as error:
        raise NotAValidJson(
            f"The body is not JSON: {describe_error(text, str(error), skipped=skipped)}."
        ) from None
    if not isinstance(value, dict):
        raise explain(f"Expected `object`, got `{_kind(value)}`", "/body")
    members = _without_nulls(msgspec.json.decode(text, type=dict[str, msgspec.Raw]), schema)
    try:
        return msgspec.json.decode(encode(members), type=schema)
    except msgspec.ValidationError as error:
        raise explain(str(error), "/body", schema) from None


def _without_nulls(value: Mapping[str, V], schema: type[Any]) -> Mapping[str, V]:
    """Leave out optional attributes that are null."""
    optional = optional_names(schema)
    return {name: item for name, item in value.items() if not (_is_null(item) and name in optional)}


def _is_null(item: object) -> bool:
    return item is None or (isinstance(item, msgspec.Raw) and bytes(item) == b"null")


def _convert(values: Mapping[str, object], schema: type[T], pointer: str) -> T:
    """Convert the values of a path or a query, where a string may be a number."""
    values = {name: _check_value(schema, name, value, pointer) for name, value in values.items()}
    try:
        return msgspec.convert(values, schema, strict=False)
    except msgspec.ValidationError as error:
        raise explain(str(error), pointer, schema) from None


def _check_value(schema: type[Any], name: str, value: object, pointer: str) -> object:
    """Accept the six words of the contract for a boolean; refuse repeated and infinite values."""
    kind: Any = schema.__annotations__.get(name)
    if kind is None:
        raise explain(f"Object contains unknown field `{name}`", pointer, schema)
    if value is None:
        raise InvalidRequest(f"{pointer}/{name}", null(schema, name))
    if kind is bool and not isinstance(value, tuple | list):
        boolean = _BOOLEANS.get(value) if isinstance(value, str | int) else None
        if boolean is None:
            raise InvalidRequest(f"{pointer}/{name}", "It must be true or false (also 1, 0).")
        return boolean
    if isinstance(value, tuple | list):
        fault = "is given more than once" if isinstance(value, tuple) else "must not be a list"
        how = ": separate several values by commas" if is_list(schema, name) else ""
        raise InvalidRequest(f"{pointer}/{name}", f"It {fault}{how}.")
    if get_origin(kind) is Annotated and get_args(kind)[0] is int and not _is_integer(value):
        expected = expectation(schema, name) or "a whole number"
        raise InvalidRequest(f"{pointer}/{name}", f"It must be {expected}.")
    if isinstance(value, str) and value.strip(_SPACES) != value:
        raise InvalidRequest(
            f"{pointer}/{name}", "There is a space before or after it: leave it out."
        )
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(f"{pointer}/{name}", "It is not a finite number.")
        return float(value)  # msgspec knows no subclasses of it
    return value


def _is_integer(value: object) -> bool:
    """Accept 1.0 as an integer in a batch line, as JSON Schema does, but not in a URL."""
    return not isinstance(value, str) or _INTEGER.fullmatch(value) is not None


def to_datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def to_seconds(moment: datetime) -> float:
    """Return seconds since the Unix epoch, to three decimal places."""
    return round((moment - _EPOCH) / _MILLISECOND) / 1000


def encode(value: Any) -> bytes:
    return _encoder.encode(value)


def _parse(text: bytes) -> object:
    """Parse JSON whose numbers may be of any size. Raises msgspec.MsgspecError."""
    return _syntax.decode(text)


def _kind(value: object) -> str:
    """Return what msgspec calls a type."""
    names = {list: "array", type(None): "null"}
    return names.get(type(value), type(value).__name__)


_syntax = msgspec.json.Decoder(float_hook=float)
_encoder = msgspec.json.Encoder(uuid_format="canonical")
