"""The types of path and query parameters, judged by what their values are in a URL."""

import re
from decimal import Decimal
from typing import Literal, TypeAlias

ParameterType: TypeAlias = Literal["identifier", "integer", "number"]
"""An identifier is any value but a whole number that is written as a decimal one, `101.0`."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_MAX_DIGITS = 40
"""Of a whole number that is suggested."""


def find_mismatch(value: object, text: str, kind: ParameterType) -> str | None:
    """Return why a value, and what it is in a URL, is not of the type; None if it is."""
    if isinstance(value, float) and kind != "number" and (whole := _whole_number(text)):
        return f"{text} is a decimal number; write {whole}."
    match kind:
        case "identifier":
            return None
        case "integer":
            return None if _INTEGER.fullmatch(text) else "It must be a whole number."
        case "number":
            return None if _NUMBER.fullmatch(text) else "It must be a number."


def _whole_number(text: str) -> str | None:
    """Return a decimal number without its fraction and exponent; None if it is no whole number.

    Programs that keep a column of numbers as floats because one of them is missing write 101 as
    101.0, which is not what the upstream knows it by.
    """
    number = Decimal(text)
    if number != number.to_integral_value():
        return None
    if number.adjusted() >= _MAX_DIGITS:
        return "it without a fraction and an exponent"
    return f"{number.to_integral_value():f}"
