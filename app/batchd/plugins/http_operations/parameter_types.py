"""The types of path and query parameters, checked by what their values are in a URL."""

import re
from decimal import Decimal
from typing import Literal, TypeAlias

ParameterType: TypeAlias = Literal["identifier", "integer", "number"]
"""An identifier is any value except a whole number written as a decimal, such as `101.0`."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MAX_DIGITS = 40
"""Maximum length of a whole number that a message suggests."""


def find_mismatch(value: object, text: str, kind: ParameterType) -> str | None:
    """Return why a value, and what it is in a URL, is not of the type; None if it is."""
    if isinstance(value, float) and kind != "number" and (whole_number := _whole_number(text)):
        return f"{text} is a decimal number; write {whole_number}."
    match kind:
        case "identifier":
            return None
        case "integer":
            return None if _INTEGER.fullmatch(text) else "It must be a whole number."
        case "number":
            return None if _NUMBER.fullmatch(text) else "It must be a number."


def _whole_number(text: str) -> str | None:
    """Return a decimal number without its fraction and exponent; None if it is not whole.

    Programs that keep a column of numbers as floats because one of them is missing write 101 as
    101.0, which the upstream does not recognize.
    """
    number = Decimal(text)
    if number != number.to_integral_value():
        return None
    if number == 0:
        return "0"
    if number.adjusted() >= _MAX_DIGITS:
        return "it without a fraction and an exponent"
    return f"{number.to_integral_value():f}"
