"""Tries bytes on the parser of batch lines: each line is reported, or taken as written."""

import atheris
import coverage_guided

with atheris.instrument_imports(include=["batchd"]):
    from tests.support.line_properties import assert_line_properties

EXAMPLES = (
    b'{"id": "a", "path": {"batch": "0198"}, "query": {"download": true}}',
    b'{"path": {"x": 101.0, "y": [1, -0, 1e400]}, "body": {"v": 12.50, "w": [{}, null]}}',
    b'\xef\xbb\xbf{"body": {"a": {"b": {"c": [[[[]]]]}}}}',
    b'{"id": "\\ud83d\\ude00", "query": {"\\u0061": 1, "a": 2}}',
    b'{"path": {}, "path": {}, "headers": {}}',
    b"[1, 2]",
    b"{'a': 1}",
    b"PK\x03\x04",
    b"\xff\xfe{\x00}\x00",
)
WORDS = (
    b'"path"',
    b'"query"',
    b'"body"',
    b'"id"',
    b"\\u",
    b"\\ud83d",
    b"null",
    b"1e",
    b"[[[[",
    b"NaN",
)


def check(data: bytes) -> None:
    assert_line_properties(data[1:], number=data[0] % 2 + 1) if data else None


coverage_guided.run(
    "batch-lines", check, examples=[b"\0" + example for example in EXAMPLES], words=WORDS
)
