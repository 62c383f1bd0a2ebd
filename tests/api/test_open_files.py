"""The limit of open files is raised for as many connections as the setting allows."""

import subprocess
import sys

import pytest

_SCRIPT = """
import logging, resource, sys
from batchd.api.open_files import allow_open_files
logging.basicConfig(format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
allow_open_files({count})
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("count", "lines"),
    [
        (100, ["256"]),
        (1000, ["1000"]),
        (
            5000,
            [
                (
                    "only 1024 files may be open: raise the limit (ulimit -n) to 5000, or lower "
                    "BATCHD_MAX_CONNECTIONS"
                ),
                "1024",
            ],
        ),
    ],
)
def test_limit_is_raised_as_far_as_permitted(count: int, lines: list[str]) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(count=count)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.splitlines() == lines
