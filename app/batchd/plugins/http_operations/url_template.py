"""URL templates: the file fixes the host; the values of a line only fill path parameters."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlsplit

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_PLAIN = re.compile(r"[A-Za-z0-9_~-]+")
_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\s*\.{1,2}\s*(?:$|[/\\;?#])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAX_DECODINGS = 8
_UTF_16_UNIT = re.compile(r"%u([0-9A-Fa-f]{4})")
_OVERLONG = {b"\xc0\xae": b".", b"\xe0\x80\xae": b".", b"\xc0\xaf": b"/", b"\xe0\x80\xaf": b"/"}
"""Encodings of a dot and a slash that are not UTF-8, but which some decoders accept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlTemplate:
    origin: str
    """Scheme, host and port."""
    segments: tuple[str, ...]
    """The path as alternating literal texts and parameter names; the first and last are texts."""
    names: frozenset[str]
    """The path parameters."""
    is_literal: bool
    """Whether the texts of the path have no percent-encoding, which a value could complete."""
    query: str
    """Sent with every call, before the parameters of the line."""

    @property
    def query_names(self) -> frozenset[str]:
        return frozenset(name for name, _ in parse_qsl(self.query, keep_blank_values=True))

    def path(self, values: Mapping[str, str]) -> str:
        """Return the path with every value encoded, "/" included."""
        return "".join(
            encode(values[segment]) if index % 2 else segment
            for index, segment in enumerate(self.segments)
        )


def needs_no_encoding(text: str) -> bool:
    """Return whether a text has only unreserved characters and no dots, as most values do.

    Takes a fifth of the time of `encode` or `find_hazard`; runs for every line.
    """
    return _PLAIN.fullmatch(text) is not None


def encode(text: str) -> str:
    """Return a value percent-encoded for a URL."""
    return text if needs_no_encoding(text) else quote(text, safe="")


def find_hazard(path: str) -> str | None:
    """Return what a path, or a value in it, contains but must not; None if there is nothing.

    Servers differ in how often they decode a path before they resolve it, and in what they treat
    as a dot, a separator or an end: whatever any of them could resolve is a hazard.
    """
    for _ in range(_MAX_DECODINGS):
        decoded = _decode(path)
        if decoded == path:
            break
        path = decoded
    else:  # each decoding takes linear time, and a line could require very many
        return f"text that is percent-encoded more than {_MAX_DECODINGS - 1} times"
    if _CONTROL.search(path):
        return "a control character"
    if _DOT_SEGMENT.search(path):
        return "the path segment '.' or '..'"
    return None


def _decode(text: str) -> str:
    """Decode once, as leniently as any server would: look-alikes become what they look like."""
    text = _UTF_16_UNIT.sub(lambda match: chr(int(match[1], 16)), text)
    data = unquote_to_bytes(text.encode(errors="surrogatepass"))
    for encoding, character in _OVERLONG.items():
        data = data.replace(encoding, character)
    return unicodedata.normalize("NFKC", data.decode(errors="replace"))


def parse_template(text: str) -> UrlTemplate:
    """Raise ValueError, whose message omits the text: it may contain values of variables."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("the URL contains characters that must be percent-encoded")
    parts = urlsplit(text)
    segments = tuple(_PARAMETER.split(parts.path or "/"))
    names = segments[1::2]
    hazard = find_hazard(parts.path)
    requirements: dict[str, object] = {
        "start with http:// or https://": parts.scheme in {"http", "https"},
        "contain no user or password: send them in a header": "@" not in parts.netloc,
        "have a host, optionally with a port, and no parameter in it": _is_host(parts.netloc),
        "have no fragment": "#" not in text,
        "have parameters in its path only": "{" not in parts.query,
        "have a path of URL characters, with parameters written as {name}": all(
            _PATH.fullmatch(segment) for segment in segments[::2]
        ),
        "have a query of URL characters": _QUERY.fullmatch(parts.query),
        "name each parameter once": len(names) == len(set(names)),
        f"not contain {hazard}": hazard is None,
    }
    for requirement, is_met in requirements.items():
        if not is_met:
            raise ValueError(f"the URL must {requirement}")
    return UrlTemplate(
        origin=f"{parts.scheme}://{parts.netloc}",
        segments=segments,
        names=frozenset(names),
        is_literal=not any("%" in segment for segment in segments[::2]),
        query=parts.query,
    )


def _is_host(text: str) -> bool:
    match = _HOST.fullmatch(text)
    return match is not None and int(match["port"] or 80) in range(1, 65536)
