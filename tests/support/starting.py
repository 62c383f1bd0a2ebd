"""The output of a command that refuses to start: one line for each fault, and an exit code."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.command import CommandResult

FAILED, UNAVAILABLE, INVALID_SETTINGS, TERMINATED = 1, 69, 78, 143
SECRET = "pa-ss-word"


def refusals(result: CommandResult) -> list[str]:
    """Return the messages: services write log records, other commands a prefix."""
    prefix = "batchd: "
    lines = result.errors.splitlines()
    if not lines or lines[0].startswith(prefix):
        assert all(line.startswith(prefix) for line in lines), result
        return [line.removeprefix(prefix) for line in lines]
    records = [json.loads(line) for line in lines]
    assert [record for record in records if "exception" in record] == [], result
    return [record["message"] for record in records if record["level"] == "CRITICAL"]


def assert_refused(
    result: CommandResult, *named: str, env: Mapping[str, str], code: int = FAILED
) -> None:
    """Check that the output names what is wrong, without a traceback or a secret."""
    assert (result.code, result.output) == (code, ""), result
    assert refusals(result)
    assert "Traceback" not in result.errors
    assert [name for name in named if name not in result.errors] == [], result
    assert env["BATCHD_DATABASE_URL"] not in result.errors


@contextmanager
def port_in_use() -> Iterator[int]:
    """Listen like another program, which shares its port with nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
