"""References to environment variables, `${NAME}`, so that the file contains no secrets."""

import re
from collections.abc import Callable

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED_PREFIX = "BATCHD_"


def has_reference(text: str) -> bool:
    """Return whether the text contains a variable reference."""
    return _REFERENCE.search(text) is not None


def expand(text: str, look_up: Callable[[str], str]) -> str:
    """Replace each reference by its value; `look_up` returns "" for a variable that is not set.

    Raises ValueError, whose message names variables but contains no values.
    """

    def value_of(reference: re.Match[str]) -> str:
        name = reference[1]
        if not _NAME.fullmatch(name):
            raise ValueError(f"${{{name}}} is not a valid environment variable name")
        if name.startswith(_RESERVED_PREFIX):
            raise ValueError(f"${{{name}}} is a setting of batchd and can't be sent to an upstream")
        value = look_up(name)
        if not value:
            raise ValueError(f"the environment variable {name} is not set or empty")
        return value

    if "${" in _REFERENCE.sub("", text):
        raise ValueError("a '${' has no matching '}'")
    return _REFERENCE.sub(value_of, text)
