"""JSON text from callers: what is wrong with it, and duplicate names in objects."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_QUOTED = 64
"""Maximum number of characters that a message quotes from a caller's text."""
MAX_NESTING = 200
"""Maximum depth of objects and lists in a line: later parsers may accept less than batchd."""

_BYTE = re.compile(r" ?\(byte (\d+)\)")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_SURROGATES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class JsonObject(list[tuple[str, object]]):
    """The members of an object, including those with the same name."""


class JsonNumber(str):
    """A number as it was written, whatever its size."""

    __slots__ = ()


def parse_syntax(text: bytes) -> object:
    """Return valid JSON as lists, texts, JsonObject, JsonNumber, booleans and None."""
    return _syntax.decode(text.decode())


def describe_error(text: bytes, error: str, *, skipped: int = 0) -> str:
    """Say what is wrong with JSON; its bytes are counted from 1."""
    if not text.strip():
        return "it is empty"
    if half := _half_surrogate_pair(text):
        escape = half[1].decode()
        position = half.start() + 1 + skipped
        return (
            f"{escape} is half of a surrogate pair, whose other half is missing (byte {position})"
        )
    if error == "Input data was truncated":
        return "it ends in the middle"
    error = error.removeprefix("JSON is malformed: ")
    match = _BYTE.search(error)
    if match is None:
        return error
    start = int(match[1])
    character = text[start : start + 4].decode(errors="ignore")[:1]
    name = "" if character.isascii() else f" U+{ord(character):04X}"
    return f"{_BYTE.sub('', error)}{name} (byte {start + 1 + skipped})"


def _half_surrogate_pair(text: bytes) -> re.Match[bytes] | None:
    if b"\\u" not in text:
        return None
    return next((match for match in _SURROGATES.finditer(text) if match[1]), None)


def repeated_name(text: bytes) -> str | None:
    """Return a name that occurs twice in one object of valid JSON, at any depth."""
    try:
        _unique.decode(text.decode())
    except _RepeatedName as error:
        return error.name
    return None


class _RepeatedName(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _check_names(pairs: list[tuple[str, object]]) -> None:
    """Raise _RepeatedName for a duplicate: parsers silently keep the last value."""
    names = set()
    for name, _ in pairs:
        if name in names:
            raise _RepeatedName(name)
        names.add(name)


def repeated_names(value: object, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Yield pointer and name of each member that repeats a name of its object, at any depth."""
    if isinstance(value, JsonObject):
        names = set()
        for name, member in value:
            inner = f"{pointer}/{pointer_token(name)}"
            if name in names:
                yield inner, name
            else:
                names.add(name)
            yield from repeated_names(member, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from repeated_names(item, f"{pointer}/{index}")


def has_unique_names(text: bytes) -> bool:
    """Return whether no object in valid JSON has a name twice; usually without using `json`."""
    try:
        encoded = _encoder.encode(_decoder.decode(text))
    except msgspec.MsgspecError:  # a number is too large
        return repeated_name(text) is None
    # The decoder drops repeated members, so equal texts have none.
    if encoded == text or encoded == msgspec.json.format(text, indent=-1):  # lazy
        return True
    return repeated_name(text) is None


def is_nested_too_deeply(text: bytes) -> bool:
    """Return whether a text, JSON or not, has more than MAX_NESTING levels."""
    if len(text) <= MAX_NESTING or text.count(b"{") + text.count(b"[") <= MAX_NESTING:
        return False
    level = highest = 0
    for bracket in _STRING.sub(b"", text).translate(None, _NOT_BRACKETS):
        level += 1 if bracket in b"[{" else -1
        highest = max(highest, level)
    return highest > MAX_NESTING


def quoted(text: str) -> str:
    """Return the text, truncated if it is long."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def pointer_token(name: str) -> str:
    """Return a name as a part of a JSON Pointer (RFC 6901), truncated if it is long."""
    return quoted(name).replace("~", "~0").replace("/", "~1")


_syntax: json.JSONDecoder = json.JSONDecoder(
    object_pairs_hook=JsonObject, parse_int=JsonNumber, parse_float=JsonNumber
)
_unique = json.JSONDecoder(object_pairs_hook=_check_names, parse_int=str, parse_float=str)
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()
