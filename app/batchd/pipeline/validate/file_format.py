"""Recognizes files of other formats than that of a batch file by their first bytes."""

import re
from collections.abc import AsyncIterator

from batchd.domain.errors import InvalidCharacters, RequestFormat
from batchd.domain.operations import ValidationIssue
from batchd.pipeline.decompression import GZIP_MAGIC
from batchd.pipeline.line_reader import BOM

_HEAD_BYTES = 1024

_ENCODINGS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_ENCODINGS_WITHOUT_MARK = {
    re.compile(rb"[\s{\[]\0\0\0|\0\0\0[\s{\[]"): "UTF-32",
    re.compile(rb"[\s{\[]\0|\0[\s{\[]"): "UTF-16",
}
_FORMATS = {
    re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)"): "a zip archive",
    re.compile(rb"7z\xbc\xaf\x27\x1c"): "a 7z archive",
    re.compile(rb"Rar!\x1a"): "a RAR archive",
    re.compile(rb".{257}ustar", re.DOTALL): "a tar archive",
    re.compile(rb"\x28\xb5\x2f\xfd"): "compressed with zstd",
    re.compile(rb"\xfd7zXZ\0"): "compressed with xz",
    re.compile(rb"BZh[1-9]"): "compressed with bzip2",
    re.compile(rb"\x04\x22\x4d\x18"): "compressed with lz4",
    re.compile(rb"\x78[\x01\x9c\xda]"): "compressed with zlib",
    re.compile(rb"PAR1"): "a Parquet file",
    re.compile(rb"\s*--[^\r\n]+\r?\n(?i:content-)"): (
        "a multipart form: send the file itself as the body of the PUT"
    ),
    re.compile(rb"\s*<"): "XML or HTML",
    re.compile(rb"\s*\["): (
        "a JSON array: write each element on a line of its own, without brackets and commas"
    ),
    re.compile(rb"\s*\{[ \t\r]*\n"): (
        "JSON with line breaks inside an object: write each object on one line"
    ),
}
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
    if encoding := _encoding(head):
        return _issue(InvalidCharacters.name, encoding)
    if is_gzip(head):
        return _issue(RequestFormat.name, _GZIP_TWICE)
    text = head.removeprefix(BOM)
    for pattern, name in _FORMATS.items():
        if pattern.match(text):
            return _issue(RequestFormat.name, name)
    return None


def _encoding(head: bytes) -> str | None:
    for mark, encoding in _ENCODINGS.items():
        if head.startswith(mark):
            return encoding
    for pattern, encoding in _ENCODINGS_WITHOUT_MARK.items():
        if pattern.match(head):
            return encoding
    return None


def _issue(code: str, name: str) -> ValidationIssue:
    return ValidationIssue(code=code, pointer="", message=f"The file is {name}. {_ACCEPTED}")
