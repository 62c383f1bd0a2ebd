"""Converts the parts of a request to checked values: the same for HTTP and for batch lines."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from batchd.domain.errors import BatchdError, InvalidCharacters, NotAValidJson, RequestFormat
from batchd.domain.operations import OperationRequest

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
SHA256_PATTERN = "^[a-f0-9]{64}$"
KEY_PATTERN = "^[a-z_][0-9a-z_]{0,63}$"

_PATTERNS = {
    UUID_PATTERN: "must be a UUID in its canonical form",
    SHA256_PATTERN: "must be a SHA-256 of 64 lower-case hexadecimal digits",
    KEY_PATTERN: "must have 1 to 64 of a-z, 0-9 and _, and not begin with a digit",
}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")

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


class InvalidRequest(RequestFormat):
    """A part of the request is malformed; `pointer` says where (JSON Pointer into the parts)."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(f"{pointer.lstrip('/').replace('/', '.') or 'body'}: {message}")
        self.pointer = pointer
        self.message = message


def read_path(request: OperationRequest, schema: type[T]) -> T:
    return _convert(request.path, schema, "/path")


def read_query(request: OperationRequest, schema: type[T]) -> T:
    return _convert(request.query, schema, "/query")


def read_body(request: OperationRequest, schema: type[T]) -> T:
    """Raises NotAValidJson, InvalidCharacters, InvalidRequest, or the error in the body's place."""
    body = request.body
    if isinstance(body, BatchdError):
        raise body
    value = _decode(body) if isinstance(body, bytes) else body
    return _convert(value, schema, "/body", strict=True)


def _decode(body: bytes) -> object:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidCharacters(f"Byte {error.start + 1} of the body is not UTF-8.") from None
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise NotAValidJson("The body is nested too deeply.") from None
    except msgspec.MsgspecError as error:
        raise NotAValidJson(f"The body is not JSON: {error}.") from None


def _convert(value: object, schema: type[T], pointer: str, *, strict: bool = False) -> T:
    """Convert; with `strict` a string is not a number, as it is in a URL."""
    if value is None:
        raise InvalidRequest(pointer, "It is missing.")
    if not strict and isinstance(value, Mapping):
        value = {name: _check_value(schema, name, item, pointer) for name, item in value.items()}
    try:
        return msgspec.convert(value, schema, strict=strict)
    except msgspec.ValidationError as error:
        raise _explain(str(error), pointer) from None


def _explain(error: str, pointer: str) -> InvalidRequest:
    """Translate msgspec's message into the terms of the caller."""
    message, _, location = error.partition(" - at ")
    in_key = location.startswith("`key` in ")
    location = location.removeprefix("`key` in ").strip("`").removeprefix("$")
    location = location.replace(".", "/").replace("[", "/").replace("]", "")
    for pattern, meaning in _PATTERNS.items():
        if pattern in message:
            message = f"A key {meaning}" if in_key else f"It {meaning}"
    unknown = _UNKNOWN.fullmatch(message)
    if unknown:
        message, location = "There is no such parameter.", f"{location}/{unknown[1]}"
    missing = _MISSING.fullmatch(message)
    if missing:
        message, location = "It is missing.", f"{location}/{missing[1]}"
    return InvalidRequest(pointer + location, message.rstrip(".") + ".")


def _check_value(schema: type[object], name: str, value: object, pointer: str) -> object:
    """Accept the six words of the contract for a boolean; refuse repeated and infinite values."""
    kind = schema.__annotations__.get(name)
    if kind is bool and not isinstance(value, list):
        boolean = _BOOLEANS.get(value) if isinstance(value, str | int) else None
        if boolean is None:
            raise InvalidRequest(f"{pointer}/{name}", "It must be true or false (also 1, 0).")
        return boolean
    if isinstance(value, list):
        raise InvalidRequest(f"{pointer}/{name}", "It is given more than once.")
    if get_origin(kind) is Annotated and get_args(kind)[0] is int and not _is_integer(value):
        raise InvalidRequest(f"{pointer}/{name}", "It must be a whole number.")
    if isinstance(value, str) and value.strip() != value:
        raise InvalidRequest(f"{pointer}/{name}", "There is a space before or after it.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"{pointer}/{name}", "It is not a finite number.")
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


_encoder = msgspec.json.Encoder(uuid_format="canonical")
