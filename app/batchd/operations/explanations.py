"""Explains what is wrong with a part of a request, in terms that callers know."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from batchd.domain.errors import RequestFormat
from batchd.domain.json_text import MAX_QUOTED, quoted
from batchd.domain.suggestions import hint

EXPECTED = "expected"
"""Key of `Meta.extra`: what a value must be, to follow "It must be"."""
LIST = "list"
"""Key of `Meta.extra`: whether a parameter takes several values, separated by commas."""

UUID_PATTERN = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
SHA256_PATTERN = "^[a-f0-9]{64}$"
KEY_PATTERN = "^[a-z_][0-9a-z_]{0,63}$"

_PATTERNS = {
    UUID_PATTERN: "must be a UUID in its canonical form",
    SHA256_PATTERN: "must be a SHA-256 of 64 lower-case hexadecimal digits",
}
_KINDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "text",
}
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_WRONG_TYPE = re.compile(r"Expected `([^`]*)`, got `(.*)`")
_WRONG_VALUE = re.compile(r"Invalid enum value '(.*)'", re.DOTALL)
_BOUND = re.compile(r"Expected `(?:int|float)` (>=|<=) (.*)")
_LENGTH = re.compile(r"Expected `str` of length (>=|<=) (.*)")
_SEVERAL = re.compile(r"(.+?)(?:\[[^\[\]]*\]|\.\d+)+")
_LIMITS = {">=": "at least", "<=": "at most"}


class InvalidRequest(RequestFormat):
    """A part of the request is malformed; `pointer` says where (JSON Pointer into the parts)."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(f"{pointer.lstrip('/').replace('/', '.') or 'body'}: {message}")
        self.pointer = pointer
        self.message = message


def explain(error: str, pointer: str, schema: type[Any] | None = None) -> InvalidRequest:
    """Translate msgspec's message about a value of the schema into the terms of the caller."""
    message, _, location = error.rpartition(" - at ")
    if not message or not location.startswith("`$"):
        message, location = error, ""
    location = location.strip("`").removeprefix("$")
    location = location.replace(".", "/").replace("[", "/").replace("]", "")
    typed = pointer.startswith("/body")
    if unknown := _UNKNOWN.fullmatch(message):
        return InvalidRequest(
            f"{pointer}{location}/{quoted(unknown[1])}",
            _unknown(unknown[1], schema, "attribute" if typed else "parameter"),
        )
    if missing := _MISSING.fullmatch(message):
        return InvalidRequest(f"{pointer}{location}/{missing[1]}", "It is missing.")
    for pattern, meaning in _PATTERNS.items():
        if pattern in message:
            return InvalidRequest(pointer + location, f"It {meaning}.")
    name = location.removeprefix("/")
    must_be = _must_be(message, schema, name, typed=typed)
    return InvalidRequest(pointer + location, f"It must be {must_be}.")


def one_of(value: str, allowed: tuple[str, ...]) -> str:
    """Explain that a value is not an allowed one, and suggest the nearest."""
    if not value:
        return f"A value is empty: leave it out, or give one of {', '.join(allowed)}."
    if value.strip() in allowed:
        return f"There is a space before or after '{value.strip()}': leave it out."
    if len(allowed) == 1:
        return f"It must be '{allowed[0]}', not '{quoted(value)}'."
    return f"'{quoted(value)}' is none of {', '.join(allowed)}.{hint(value, allowed)}"


def null(schema: type[Any], name: str) -> str:
    """Explain that a value must not be null, and what to do instead."""
    attribute = _attributes(schema).get(name)
    if attribute is None or not attribute.required:
        return "It must not be null: leave it out."
    return f"It must be {attribute.expected or 'given'}, not null."


def optional_names(schema: type[Any]) -> frozenset[str]:
    """Return the attributes that may be left out."""
    return frozenset(name for name, item in _attributes(schema).items() if not item.required)


def expectation(schema: type[Any], name: str) -> str | None:
    """Return what a value of this attribute must be, where the schema says so."""
    attribute = _attributes(schema).get(name)
    return None if attribute is None else attribute.expected


def is_list(schema: type[Any], name: str) -> bool:
    """Return whether a parameter takes several values, separated by commas."""
    attribute = _attributes(schema).get(name)
    return attribute is not None and attribute.is_list


def _must_be(message: str, schema: type[Any] | None, name: str, *, typed: bool) -> str:
    """Return what a value must be; with `typed`, also its type: in a URL, everything is text."""
    expected = None if schema is None else expectation(schema, name)
    if wrong_type := _WRONG_TYPE.fullmatch(message):
        needed, given = wrong_type.groups()
        if expected is not None and (not typed or _is_kind(given, needed)):
            return expected
        return f"{expected or _words(needed)}, not {_words(given)}"
    if wrong_value := _WRONG_VALUE.fullmatch(message):
        return f"{expected}, not '{quoted(wrong_value[1])}'"
    return expected or _within(message)


def _within(message: str) -> str:
    """Describe the bounds of a value whose schema does not describe it."""
    if bound := _BOUND.fullmatch(message):
        return f"{_LIMITS[bound[1]]} {bound[2].removesuffix('.0')}"
    if length := _LENGTH.fullmatch(message):
        return f"text of {_LIMITS[length[1]]} {length[2]} characters"
    return f"something else: {message[:1].lower()}{message[1:].rstrip('.')}"


def _is_kind(given: str, needed: str) -> bool:
    """Return whether the value is a number as required: its type is right, but not its value."""
    return given == "int" and "float" in needed.split(" | ")


def _unknown(name: str, schema: type[Any] | None, kind: str) -> str:
    """Explain that a name is unknown, and suggest the nearest or list those that exist."""
    text = f"There is no such {kind}."
    if schema is None:
        return text
    several = _SEVERAL.fullmatch(name[:MAX_QUOTED])
    single = name if several is None else several[1]
    if single != name and single in _attributes(schema):
        advice = "separate several values by commas" if is_list(schema, single) else "give it once"
        return f"{text} Its name is '{single}': {advice}."
    names = tuple(_attributes(schema))
    return text + (hint(name, names) or f" There {_are(names)}.")


def _are(names: tuple[str, ...]) -> str:
    match names:
        case ():
            return "is none at all"
        case (name,):
            return f"is only '{name}'"
        case _:
            return f"are {', '.join(names[:-1])} and {names[-1]}"


def _words(kinds: str) -> str:
    return " or ".join(_KINDS.get(kind, kind) for kind in kinds.split(" | "))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attribute:
    required: bool
    expected: str | None
    is_list: bool


_schemas: dict[object, Mapping[str, _Attribute]] = {}


def _attributes(schema: type[Any]) -> Mapping[str, _Attribute]:
    """Return the declarations of a struct's attributes, by name; they are read only once."""
    attributes = _schemas.get(schema)
    if attributes is None:
        fields = msgspec.structs.fields(schema) if issubclass(schema, msgspec.Struct) else ()
        attributes = {field.encode_name: _attribute(field) for field in fields}
        _schemas[schema] = attributes
    return attributes


def _attribute(field: msgspec.structs.FieldInfo) -> _Attribute:
    extra: dict[str, object] = {}
    for meta in _metas(field.type):
        extra = {**(meta.extra or {}), **extra}
    expected = extra.get(EXPECTED)
    if get_origin(field.type) is Literal:
        expected = " or ".join(f"'{choice}'" for choice in get_args(field.type))
    return _Attribute(
        required=field.required,
        expected=None if expected is None else str(expected),
        is_list=bool(extra.get(LIST)),
    )


def _metas(kind: object) -> Iterator[msgspec.Meta]:
    """Yield the metadata of a type, the outermost first."""
    if get_origin(kind) is Annotated:
        inner, *metas = get_args(kind)
        yield from reversed([meta for meta in metas if isinstance(meta, msgspec.Meta)])
        yield from _metas(inner)
    else:
        for part in get_args(kind):
            yield from _metas(part)
