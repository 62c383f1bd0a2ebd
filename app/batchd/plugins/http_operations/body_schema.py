"""The JSON Schema of a body: checked when the file is loaded, applied to every line."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import Any

import jsonschema_rs
import msgspec
from jsonschema_rs import ValidationError, ValidationErrorKind

from batchd.domain.errors import RequestFormat
from batchd.domain.operations import ValidationIssue
from batchd.domain.suggestions import hint

MAX_ISSUES = 20
"""Per line; bounds the size of the report whatever a line contains."""
_MAX_MESSAGE_LENGTH = 300
_MAX_TOKEN_LENGTH = 100
_MAX_FLOAT_LENGTH = 15
"""Maximum length of a number that a float represents without loss."""
_MAX_EXPONENT = 1000
"""Work with the exact value of a number grows with its exponent, which takes few characters."""


_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "an object",
    "string": "text",
}


class BodySchema:
    """Draft 2020-12, unless the schema names another one."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Raise ValueError for an invalid schema, and for one with references to fetch."""
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                offline=True,
                validate_formats=True,
                ignore_unknown_formats=False,
                # Matches in linear time whatever a line contains, hence no look-around.
                pattern_options=jsonschema_rs.RegexOptions(),
                # The report describes what is wrong without repeating a value: it may be a secret.
                mask="It",
            )
        except ValidationError as error:
            pointer = _pointer(error.instance_path)
            reason = f"invalid JSON Schema: {pointer or 'at the root'}: {error.message}"
            if pointer.endswith("/pattern"):
                reason += " (look-around and back-references are not supported)"
            raise ValueError(reason) from None
        except (TypeError, ValueError, jsonschema_rs.ReferencingError) as error:
            raise ValueError(f"invalid JSON Schema: {error}") from None

    def validate(self, body: bytes) -> list[ValidationIssue]:
        """Return the issues of a body, as JSON text, with pointers into the line."""
        try:
            value = _decoder.decode(body)
            if self._validator.is_valid(value):
                return []
            issues = chain.from_iterable(map(_issues, self._validator.iter_errors(value)))
            return list(islice(issues, MAX_ISSUES))
        except _OutOfRange as error:
            return [new_issue(f"A number in it is out of range: {error}.", "body")]
        except msgspec.ValidationError:
            return [new_issue("A whole number in it has too many digits.", "body")]
        except RecursionError:
            return [_NESTED_TOO_DEEPLY]
        except ValueError as error:
            if str(error) != _RECURSION_LIMIT_REACHED:
                raise
            return [_NESTED_TOO_DEEPLY]


class _OutOfRange(Exception):
    """A number has an exponent that is too large, positive or negative."""


def _number(text: str) -> float | Decimal:
    """Return a number for validation: exact if a float, which is faster, might not be."""
    if len(text) <= _MAX_FLOAT_LENGTH and "e" not in text and "E" not in text:
        return float(text)
    number = Decimal(text)
    if abs(number.adjusted()) > _MAX_EXPONENT:
        raise _OutOfRange(f"its exponent must be from -{_MAX_EXPONENT} to {_MAX_EXPONENT}")
    return number


_decoder = msgspec.json.Decoder(float_hook=_number)


def _issues(error: ValidationError) -> Iterator[ValidationIssue]:
    path = error.instance_path
    match error.kind:
        case ValidationErrorKind.Required(property=name):
            yield new_issue("It is missing.", "body", *path, name)
        case ValidationErrorKind.Type(types=types):
            kinds = " or ".join(_TYPES.get(name, name) for name in sorted(types, key="null".__eq__))
            given = _json_kind(error.instance)
            # A number that is not whole is of the kind that is expected.
            contrast = "" if given == "a number" and "integer" in types else f", not {given}"
            yield new_issue(f"It must be {kinds}{contrast}.", "body", *path)
        case ValidationErrorKind.Enum(options=options):
            yield new_issue(_none_of(error.instance, options), "body", *path)
        case ValidationErrorKind.AdditionalProperties(unexpected=names):
            for name in names:
                yield new_issue("There is no such attribute.", "body", *path, name)
        case _:
            message = error.message
            if len(message) > _MAX_MESSAGE_LENGTH:
                message = message[:_MAX_MESSAGE_LENGTH] + "…"
            yield new_issue(f"{message.rstrip('.')}.", "body", *path)


def _none_of(value: object, options: Sequence[object]) -> str:
    """Say which values are allowed, and which one may be meant; the value may be a secret."""
    allowed = [msgspec.json.encode(option).decode() for option in options]
    text = ", ".join(allowed)
    if len(text) > _MAX_MESSAGE_LENGTH:
        text = f"{text[:_MAX_MESSAGE_LENGTH]}…"
    names = [option for option in options if isinstance(option, str)]
    suggestion = hint(value, names) if isinstance(value, str) else ""
    return f"It must be one of {text}.{suggestion}"


def _json_kind(value: object) -> str:
    """Return what a value is in JSON, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"


def new_issue(message: str, *path: str | int) -> ValidationIssue:
    """Return an issue of the value at this path of the line."""
    return ValidationIssue(code=RequestFormat.name, pointer=_pointer(path), message=message)


def _pointer(path: Sequence[str | int]) -> str:
    tokens = (str(key).replace("~", "~0").replace("/", "~1")[:_MAX_TOKEN_LENGTH] for key in path)
    return "".join(f"/{token}" for token in tokens)


_RECURSION_LIMIT_REACHED = "Recursion limit reached"
"""The message of the schema library for a value that is nested too deeply."""
_NESTED_TOO_DEEPLY = new_issue("It is nested too deeply.", "body")
