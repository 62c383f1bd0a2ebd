"""Converts the body of an upstream's response to the body of a results line."""

import base64

import msgspec

from batchd.plugins.http_operations.client import UpstreamResponse

_BOM = "\ufeff"
_CHARSETS = {"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"}


def encode_body(response: UpstreamResponse) -> bytes:
    """Return JSON on one line: the body if it is JSON, else `{"text"}`, `{"base64"}`, or null.

    Numbers keep the notation in which they were sent.
    """
    data = response.body or b""
    if not data:
        return b"null"
    text = None if response.is_encoded else _decode(data, response.charset.lower() or "utf-8")
    if text is None:
        return msgspec.json.encode({"base64": base64.b64encode(data).decode()})
    if _may_be_json(response.media_type):
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


def _may_be_json(media_type: str) -> bool:
    return media_type in {"application/json", ""} or media_type.endswith("+json")
