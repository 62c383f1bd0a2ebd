"""The error of an invalid policy, with the file, line and reason of each fault."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from batchd.domain.ports import StartupError


class Fault(NamedTuple):
    file: Path
    line: int | None
    """None if the fault concerns the file as a whole."""
    reason: str

    def __str__(self) -> str:
        location = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{location}: {self.reason}"


class InvalidPolicy(StartupError):
    """A policy file is missing or invalid; the message lists every fault."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults: Sequence[Fault] = faults


def decode(file: Path, content: bytes) -> str:
    """Return the file's text. Raises InvalidPolicy."""
    try:
        return content.decode("utf-8-sig")  # spreadsheet programs write a BOM
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidPolicy(Fault(file, line, "not UTF-8")) from None
