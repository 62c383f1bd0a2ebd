"""Why a policy on disk cannot take force."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from batchd.domain.ports import StartupError


class Fault(NamedTuple):
    file: Path
    line: int | None
    """None where the file as a whole is meant."""
    reason: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}"


class InvalidPolicy(StartupError):
    """A policy file is missing or wrong; every fault is told."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults: Sequence[Fault] = faults


def decode(file: Path, content: bytes) -> str:
    """Return the file's text. Raises InvalidPolicy."""
    try:
        return content.decode("utf-8-sig")  # spreadsheet programs begin a file with a BOM
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidPolicy(Fault(file, line, "not UTF-8")) from None
