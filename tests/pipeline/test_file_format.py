"""Files of other formats are recognized by their first bytes; valid batch files never are."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchd.pipeline.validate.file_format import foreign_format, is_gzip, peek

LINES = b'{"id": "a"}\n{"id": "b"}\n'
TEXT = LINES.decode()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("calls.jsonl", LINES)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("calls.jsonl"), io.BytesIO())
    return file.getvalue()


FORM = b'--xyz\r\nContent-Disposition: form-data; name="file"\r\n\r\n{}\r\n--xyz--\r\n'
ARRAY = "a JSON array: write each element on a line of its own, without brackets and commas"
CSV = "CSV: write each row as an object"
BROKEN = "JSON with line breaks inside an object: write each object on one line"


@pytest.mark.parametrize(
    ("head", "code", "name"),
    [
        (TEXT.encode("utf-16"), "invalid_characters", "UTF-16"),
        (TEXT.encode("utf-16-le"), "invalid_characters", "UTF-16"),
        (TEXT.encode("utf-16-be"), "invalid_characters", "UTF-16"),
        (TEXT.encode("utf-32"), "invalid_characters", "UTF-32"),
        (TEXT.encode("utf-32-be"), "invalid_characters", "UTF-32"),
        (zipped(), "request_format", "a zip archive"),
        (tarred(), "request_format", "a tar archive"),
        (bytes.fromhex("28b52ffd"), "request_format", "compressed with zstd"),
        (lzma.compress(LINES), "request_format", "compressed with xz"),
        (bz2.compress(LINES), "request_format", "compressed with bzip2"),
        (zlib.compress(LINES), "request_format", "compressed with zlib"),
        (zlib.compress(LINES, 5), "request_format", "compressed with zlib"),
        (lzma.compress(LINES, lzma.FORMAT_ALONE), "request_format", "compressed with LZMA"),
        (b"LZIP\x01", "request_format", "compressed with lzip"),
        (b"\x1f\x9d\x90", "request_format", "compressed with compress"),
        (b"\xff\x06\0\0sNaPpY", "request_format", "compressed with Snappy"),
        (bytes.fromhex("502a4d1804000000"), "request_format", "compressed with zstd"),
        (gzip.compress(LINES, mtime=0), "request_format", "compressed with gzip twice"),
        (b"PAR1\x15", "request_format", "a Parquet file"),
        (b"Obj\x01\x04", "request_format", "an Avro file"),
        (b"ORC\x11", "request_format", "an ORC file"),
        (b"SQLite format 3\0", "request_format", "an SQLite database"),
        (bytes.fromhex("d0cf11e0a1b11ae1"), "request_format", "an old Office document"),
        (b"%PDF-1.7\n", "request_format", "a PDF document"),
        (
            b'\x1e{"id": "a"}\n',
            "request_format",
            "a JSON text sequence: remove the character U+001E at the start of each text",
        ),
        (b"---\nid: a\n", "request_format", "YAML"),
        (b'id,"batch no"\r\na,b\r\n', "request_format", CSV),
        (b"\xef\xbb\xbfid;batch\n", "request_format", CSV),
        (b"id\tbatch\n", "request_format", CSV),
        (b"\x89PNG\r\n", "invalid_characters", "not text"),
        (b"caf\xe9\n", "invalid_characters", "not text"),
        (b"MZ\0\0", "invalid_characters", "not text"),
        (
            FORM,
            "request_format",
            "a multipart form: send the file itself as the body of the PUT",
        ),
        (b"<!DOCTYPE html>", "request_format", "XML or HTML"),
        (b'[{"id": "a"}]', "request_format", ARRAY),
        (b"\xef\xbb\xbf [\n", "request_format", ARRAY),
        (json.dumps({"id": "a"}, indent=1).encode(), "request_format", BROKEN),
    ],
    ids=lambda value: ascii(value[:4]) if isinstance(value, bytes) else "",
)
def test_foreign_format_is_named(head: bytes, code: str, name: str) -> None:
    issue = foreign_format(head)
    assert issue is not None
    assert (issue.code, issue.pointer) == (code, "")
    assert issue.message == (
        f"The file is {name}. "
        "A batch file is UTF-8 JSON Lines, plain or compressed with gzip: one object per line."
    )


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\n",
        LINES,
        b"\xef\xbb\xbf" + LINES,
        b"\r\n \n" + LINES,
        b"no json",
        b"{}",
        b'{"id": "\xff\0"}',
        "no json, but caf\u00e9".encode()[:-1],
        b"5\n",
        b'{"a":1},{"b":2}\n',
    ],
)
def test_batch_file_is_not_a_foreign_format(head: bytes) -> None:
    assert foreign_format(head) is None


@given(st.lists(st.binary(max_size=600), max_size=5))
async def test_peeking_consumes_nothing(pieces: list[bytes]) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    head, same = await peek(stream())
    data = b"".join(pieces)
    assert is_gzip(head) is data.startswith(b"\x1f\x8b")
    assert data.startswith(head)
    assert len(head) >= min(len(data), 1024)
    assert b"".join([piece async for piece in same]) == data
