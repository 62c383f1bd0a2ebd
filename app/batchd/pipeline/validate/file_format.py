"""Recognizes files of other formats than that of a batch file by their first bytes."""

import codecs
import re
from collections.abc import AsyncIterator

from batchd.domain.errors import InvalidCharacters, RequestFormat
from batchd.domain.json_text import foreign_encoding
from batchd.domain.operations import ValidationIssue
from batchd.pipeline.decompression import GZIP_MAGIC
from batchd.pipeline.line_reader import BOM

_HEAD_BYTES = 1024

_CSV_FIELD = rb"""(?:"[^"\r\n{}]*"|[\w .()#/-]+)"""
_FORMATS = {
    re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)"): "a zip archive",
    re.compile(rb"7z\xbc\xaf\x27\x1c"): "a 7z archive",
    re.compile(rb"Rar!\x1a"): "a RAR archive",
    re.compile(rb".{257}ustar", re.DOTALL): "a tar archive",
    re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"): "compressed with zstd",
    re.compile(rb"\xfd7zXZ\0"): "compressed with xz",
    re.compile(rb"BZh[1-9]"): "compressed with bzip2",
    re.compile(rb"\x04\x22\x4d\x18"): "compressed with lz4",
    re.compile(rb"\x78[\x01\x5e\x9c\xda]"): "compressed with zlib",
    re.compile(rb"\x5d\0\0.\0?"): "compressed with LZMA",
    re.compile(rb"LZIP\x01"): "compressed with lzip",
    re.compile(rb"\x1f[\x9d\xa0]"): "compressed with compress",
    re.compile(rb"\xff\x06\0\0sNaPpY"): "compressed with Snappy",
    re.compile(rb"PAR1"): "a Parquet file",
    re.compile(rb"Obj\x01"): "an Avro file",
    re.compile(rb"ORC[\0-\x1f\x80-\xff]"): "an ORC file",
    re.compile(rb"SQLite format 3\0"): "an SQLite database",
    re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"): "an old Office document",
    re.compile(rb"%PDF-"): "a PDF document",
    re.compile(rb"\x1e"): (
        "a JSON text sequence: remove the character U+001E at the start of each text"
    ),
    re.compile(rb"\s*--[^\r\n]+\r?\n(?i:content-)"): (
        "a multipart form: send the file itself as the body of the PUT"
    ),
    re.compile(rb"\s*<"): "XML or HTML",
    re.compile(rb"\s*(---[ \t]*\r?\n|%YAML)"): "YAML",
    re.compile(rb"\s*" + _CSV_FIELD + rb"([,;\t]" + _CSV_FIELD + rb")+\r?(\n|\Z)"): (
        "CSV: write each row as an object"
    ),
    re.compile(rb"\s*\["): (
        "a JSON array: write each element on a line of its own, without brackets and commas"
    ),
    re.compile(rb"\s*\{[ \t\r]*\n"): (
        "JSON with line breaks inside an object: write each object on one line"
    ),
}
_BINARY = "not text"
_GZIP_TWICE = "compressed with gzip twice"
_ACCEPTED = "A batch file is UTF-8 JSON Lines, plain or compressed with gzip: one object per line."


async def peek(pieces: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """Return the first bytes, and an iterator over the same data from its start."""
    head = b""
    async for piece in pieces:
        head += piece
        if len(head) >= _HEAD_BYTES:
            break

    async def all_pieces() -> AsyncIterator[bytes]:
        yield head
        async for piece in pieces:
            yield piece

    return head, all_pieces()


def is_gzip(head: bytes) -> bool:
    return head.startswith(GZIP_MAGIC)


def foreign_format(head: bytes) -> ValidationIssue | None:
    """Return the issue of a file, decompressed if it was gzip, that has another format.

    No line of such a file needs to be checked: the first could not be valid.
    """
    if encoding := foreign_encoding(head):
        return _issue(InvalidCharacters.name, encoding)
    if is_gzip(head):
        return _issue(RequestFormat.name, _GZIP_TWICE)
    text = head.removeprefix(BOM)
    for pattern, name in _FORMATS.items():
        if pattern.match(text):
            return _issue(RequestFormat.name, name)
    return _issue(InvalidCharacters.name, _BINARY) if _is_binary(text) else None


def _is_binary(head: bytes) -> bool:
    """Return whether the file is of no use to a person, and its first line cannot be valid."""
    text = head.lstrip()
    if text.startswith(b"{"):
        return False
    # The last character may be cut.
    _, position = codecs.utf_8_decode(head, "ignore")
    return b"\0" in text or head[:position].decode(errors="ignore").encode() != head[:position]


def _issue(code: str, name: str) -> ValidationIssue:
    return ValidationIssue(code=code, pointer="", message=f"The file is {name}. {_ACCEPTED}")
