"""The log: the fields of a record, and which records are written."""

import json
import logging
import subprocess
import sys

import pytest

from batchd.observability.logs import JsonFormatter

_SCRIPT = """
import logging, uuid
from batchd.observability import logs
logs.configure("ERROR")
logging.getLogger("batchd.module").warning("below the level")
logging.getLogger(logs.AUDIT).info("deny %s", "get_batch", extra={"user": uuid.UUID(int=1)})
"""


def test_audit_records_are_written_whatever_the_level() -> None:
    process = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )

    (line,) = process.stderr.splitlines()
    entry = json.loads(line)
    assert (entry["logger"], entry["message"]) == ("batchd.audit", "deny get_batch")
    assert entry["user"] == "00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    "character",
    [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
    + list("\u061c\u200b\u200e\u200f\u2028\u2029\ufeff")
    + [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDFFF)],
)
def test_characters_that_act_on_a_terminal_are_escaped(character: str) -> None:
    text = f"GET /a{character}b"
    record = logging.makeLogRecord({"msg": text, "levelname": "INFO", "path": text})
    line = JsonFormatter().format(record)
    assert character not in line
    assert (json.loads(line)["message"], json.loads(line)["path"]) == (text, text)
    line.encode()


def test_text_of_any_language_is_logged_as_it_is() -> None:
    text = "Zürich, 東京, עברית, 🙂"
    assert text in JsonFormatter().format(logging.makeLogRecord({"msg": text}))
