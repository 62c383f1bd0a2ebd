"""Suggestions: which of the allowed values a caller may have meant."""

import difflib
from collections.abc import Iterable

_MAX_LENGTH = 64
_MIN_LENGTH = 3
"""Of a name that is compared letter by letter: two of two letters are similar by chance."""


def nearest(value: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed value that is nearest to this one, if any is near."""
    lowered = value[:_MAX_LENGTH].strip().lower()
    names = list(allowed)
    if equal := next((name for name in names if name.lower() == lowered), None):
        return equal
    long_names = [name for name in names if len(name) >= _MIN_LENGTH]
    return next(iter(difflib.get_close_matches(lowered, long_names, n=1)), None)


def hint(value: str, allowed: Iterable[str]) -> str:
    """Return a sentence, to follow another one, that suggests the nearest value; or nothing."""
    suggestion = nearest(value, allowed)
    return "" if suggestion is None else f" Perhaps '{suggestion}' is meant."
