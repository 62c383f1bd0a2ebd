"""The JSON Schema of a body: checked when the file is read, held against every line."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import jsonschema_rs
from jsonschema_rs import ValidationError, ValidationErrorKind

from batchd.domain.errors import RequestFormat
from batchd.domain.operations import ValidationIssue

MAX_PROBLEMS = 20
"""Of one line: the report stays in bounds, whatever a line is like."""
_MESSAGE_LENGTH = 300
_TOKEN_LENGTH = 100


class BodySchema:
    """Draft 2020-12, unless the schema names another one."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Raise ValueError for what is no schema, and for one that would be fetched elsewhere."""
        try:
            self._validator = jsonschema_rs.validator_for(
                schema,
                offline=True,
                validate_formats=True,
                ignore_unknown_formats=False,
                # In linear time whatever a line holds, so without look-around.
                pattern_options=jsonschema_rs.RegexOptions(),
                # The report says what is wrong, and does not repeat what may be a secret.
                mask="It",
            )
        except ValidationError as error:
            place = _pointer(error.instance_path)
            reason = f"not a JSON Schema: {place or 'the whole'}: {error.message}"
            if place.endswith("/pattern"):
                reason += " (look-around and back-references are not supported)"
            raise ValueError(reason) from None
        except (TypeError, ValueError, jsonschema_rs.ReferencingError) as error:
            raise ValueError(f"not a JSON Schema: {error}") from None

    def problems(self, body: Mapping[str, Any]) -> list[ValidationIssue]:
        """Return what is wrong with a body, by pointers into the line."""
        if self._validator.is_valid(body):
            return []
        found = chain.from_iterable(map(_problems, self._validator.iter_errors(body)))
        return list(islice(found, MAX_PROBLEMS))


def _problems(error: ValidationError) -> Iterator[ValidationIssue]:
    place = error.instance_path
    match error.kind:
        case ValidationErrorKind.Required(property=name):
            yield problem("It is missing.", "body", *place, name)
        case ValidationErrorKind.AdditionalProperties(unexpected=names):
            for name in names:
                yield problem("There is no such attribute.", "body", *place, name)
        case _:
            text = error.message
            if len(text) > _MESSAGE_LENGTH:
                text = text[:_MESSAGE_LENGTH] + "…"
            yield problem(f"{text.rstrip('.')}.", "body", *place)


def problem(message: str, *place: str | int) -> ValidationIssue:
    """Return a problem with the part of the line that this way leads to."""
    return ValidationIssue(code=RequestFormat.name, pointer=_pointer(place), message=message)


def _pointer(place: Sequence[str | int]) -> str:
    tokens = (str(token).replace("~", "~0").replace("/", "~1")[:_TOKEN_LENGTH] for token in place)
    return "".join(f"/{token}" for token in tokens)
