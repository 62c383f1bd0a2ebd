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
_NOT_A_NUMBER = re.compile(rb"-?(?:NaN|Infinity)\b")
_FIRST_PRINTABLE = 0x20
_NAMES = {"\ufeff": ", a byte order mark"}
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
        reason = "is half of a surrogate pair, whose other half is missing"
        return f"{half[1].decode()} {reason} (byte {half.start() + 1 + skipped})"
    if error == "Input data was truncated":
        return "it ends in the middle"
    try:
        # Its messages are the same whatever the text was to be decoded to.
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.MsgspecError as malformed:
        error = str(malformed)
    error = error.removeprefix("JSON is malformed: ")
    match = _BYTE.search(error)
    if match is None:
        return error
    start = int(match[1]) - _is_next(text, error, int(match[1]))
    position = f"(byte {start + 1 + skipped})"
    if name := _NOT_A_NUMBER.match(text, start):
        return f"{name[0].decode()} is not a number in JSON {position}"
    return f"{_BYTE.sub('', error)}{_invisible(text[start : start + 4])} {position}"


def _is_next(text: bytes, error: str, start: int) -> bool:
    """Return whether msgspec names the byte after the one that is wrong."""
    if error.startswith("invalid character ("):
        # In a word: its second character, unless this is a string with a control character.
        return text[start - 1 : start] in {b"t", b"f", b"n"} and text[start] >= _FIRST_PRINTABLE
    return error.startswith(("trailing characters", "invalid character in unicode escape"))


def _invisible(text: bytes) -> str:
    """Return the first character's name, to follow what is wrong with it, if no editor shows it."""
    character = text.decode(errors="ignore")[:1]
    if not character or (character.isascii() and character.isprintable()):
        return ""
    return f": U+{ord(character):04X}{_NAMES.get(character, '')}"


def _half_surrogate_pair(text: bytes) -> re.Match[bytes] | None:
    if b"\\u" not in text:
        return None
    return next((match for match in _SURROGATES.finditer(text) if match[1]), None)


_ENCODINGS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_ENCODINGS_WITHOUT_MARK = {
    re.compile(rb"[\s{\[]\0\0\0|\0\0\0[\s{\[]"): "UTF-32",
    re.compile(rb"[\s{\[]\0|\0[\s{\[]"): "UTF-16",
}


def foreign_encoding(text: bytes) -> str | None:
    """Return the encoding that JSON text is recognized to have by its first bytes, if not UTF-8."""
    for mark, encoding in _ENCODINGS.items():
        if text.startswith(mark):
            return encoding
    for pattern, encoding in _ENCODINGS_WITHOUT_MARK.items():
        if pattern.match(text):
            return encoding
    return None


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
