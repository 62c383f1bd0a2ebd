"""URL templates: the host is the file's alone; values fill in parts of the path, nothing else."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_PLAIN = re.compile(r"[A-Za-z0-9_~-]+")
_STEP = re.compile(r"(?:^|[/\\])\.{1,2}(?:$|[/\\;])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    origin: str
    """Scheme, host and port."""
    pieces: tuple[str, ...]
    """The path: text as it is sent, name, text, name, …, text."""
    names: frozenset[str]
    """Those of the path's parameters."""
    query: str
    """Sent with every call, before what the line gives."""

    @property
    def query_names(self) -> frozenset[str]:
        return frozenset(name for name, _ in parse_qsl(self.query, keep_blank_values=True))

    def path(self, values: Mapping[str, str]) -> str:
        """Return the path with every value encoded, "/" too."""
        return "".join(
            encode(values[piece]) if place % 2 else piece for place, piece in enumerate(self.pieces)
        )


def is_plain(text: str) -> bool:
    """Tell whether a text has nothing to encode, and nothing that could climb; most are like that.

    It takes a fifth of the time that encoding or `climbs` takes, and is asked for every line.
    """
    return _PLAIN.fullmatch(text) is not None


def encode(text: str) -> str:
    """Return a value as it stands in a URL."""
    return text if is_plain(text) else quote(text, safe="")


def climbs(path: str) -> bool:
    """Tell whether a path, or a value for one, has a segment `.` or `..`.

    Percent-encoding does not hide these: there are servers that decode before they resolve them.
    """
    return _STEP.search(unquote(path)) is not None


def parse_template(text: str) -> Template:
    """Raise ValueError, which does not tell the text: it may hold values of the environment."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("the URL has characters that must be percent-encoded")
    parts = urlsplit(text)
    pieces = tuple(_PARAMETER.split(parts.path or "/"))
    names = pieces[1::2]
    rules: dict[str, object] = {
        "begin with http:// or https://": parts.scheme in {"http", "https"},
        "have no user or password in it: send them in a header": "@" not in parts.netloc,
        "have a host, with a port or without, and no parameter in it": _is_host(parts.netloc),
        "have no fragment": "#" not in text,
        "have parameters in its path only": "{" not in parts.query,
        "have a path of URL characters, and parameters written {name}": all(
            _PATH.fullmatch(piece) for piece in pieces[::2]
        ),
        "have a query of URL characters": _QUERY.fullmatch(parts.query),
        "name each parameter once": len(names) == len(set(names)),
        "have no segment '.' or '..'": not climbs(parts.path),
    }
    for rule, holds in rules.items():
        if not holds:
            raise ValueError(f"the URL must {rule}")
    return Template(
        origin=f"{parts.scheme}://{parts.netloc}",
        pieces=pieces,
        names=frozenset(names),
        query=parts.query,
    )


def _is_host(text: str) -> bool:
    match = _HOST.fullmatch(text)
    return match is not None and int(match["port"] or 80) in range(1, 65536)
