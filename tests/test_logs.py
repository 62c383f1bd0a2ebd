"""The log: the fields of a record, and which records are written."""

import json
import subprocess
import sys

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
