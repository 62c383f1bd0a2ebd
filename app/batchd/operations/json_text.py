"""JSON text as callers write it: what is wrong with it, and names that an object has twice."""

import json
import re

_BYTE = re.compile(r"\(byte (\d+)\)")


def describe_error(text: bytes, error: str, *, skipped: int = 0) -> str:
    """Say what is wrong with JSON; its bytes are counted from 1."""
    if not text.strip():
        return "it is empty"
    if error == "Input data was truncated":
        return "it ends in the middle, or half of a surrogate pair stands alone"
    error = error.removeprefix("JSON is malformed: ")
    return _BYTE.sub(lambda match: f"(byte {int(match[1]) + 1 + skipped})", error)


def repeated_name(text: bytes) -> str | None:
    """Return a name that an object in valid JSON has twice, at any depth."""
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
    """Raise _RepeatedName: parsers keep the last of the values, and do not say so."""
    names = set()
    for name, _ in pairs:
        if name in names:
            raise _RepeatedName(name)
        names.add(name)


_unique = json.JSONDecoder(object_pairs_hook=_check_names, parse_int=str, parse_float=str)
