"""From an upstream's reply to the body of a line of results."""

import base64

import msgspec

from batchd.plugins.http_operations.client import Reply

_BOM = "\ufeff"
_CHARSETS = {"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"}


def body_of(reply: Reply) -> bytes:
    """Return JSON on one line: what came if it is JSON, else `{"text"}`, `{"base64"}`, or null.

    Numbers stay as they were written.
    """
    data = reply.body or b""
    if not data:
        return b"null"
    text = None if reply.is_encoded else _decode(data, reply.charset.lower() or "utf-8")
    if text is None:
        return msgspec.json.encode({"base64": base64.b64encode(data).decode()})
    if _is_json(reply.media_type):
        try:
            return msgspec.json.format(text.encode(), indent=-1)
        except (msgspec.DecodeError, RecursionError):
            pass
    return msgspec.json.encode({"text": text})


def _decode(data: bytes, charset: str) -> str | None:
    if charset not in _CHARSETS:
        return None
    try:
        return data.decode(charset).removeprefix(_BOM)
    except UnicodeDecodeError:
        return None


def _is_json(media_type: str) -> bool:
    """Without a type it may be."""
    return media_type in {"application/json", ""} or media_type.endswith("+json")
