"""`${NAME}` in the file: values of the environment, so that no secret stands in the file."""

import re
from collections.abc import Callable

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN = "BATCHD_"


def refers(text: str) -> bool:
    """Tell whether the text has a reference."""
    return _REFERENCE.search(text) is not None


def expand(text: str, look_up: Callable[[str], str]) -> str:
    """Put the values in; a variable that is not set is looked up as an empty text.

    Raises ValueError, which names variables but never tells a value.
    """

    def value(reference: re.Match[str]) -> str:
        name = reference[1]
        if not _NAME.fullmatch(name):
            raise ValueError(f"${{{name}}} is not the name of an environment variable")
        if name.startswith(_OWN):
            raise ValueError(f"${{{name}}} is a setting of batchd's own, not for upstreams")
        found = look_up(name)
        if not found:
            raise ValueError(f"the environment variable {name} is not set, or empty")
        return found

    if "${" in _REFERENCE.sub("", text):
        raise ValueError("there is a '${' without its '}'")
    return _REFERENCE.sub(value, text)
