"""Why an operations file cannot take force."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from batchd.domain.ports import StartupError
from batchd.file_watcher import Contents


class Fault(NamedTuple):
    key: str
    """Where in the file, as `operations.NAME.retry.attempts`; empty: the file as a whole."""
    reason: str


class InvalidOperationsFile(StartupError):
    """The file, or one that it names, is missing or wrong; every fault is told."""

    def __init__(self, file: Path, faults: Sequence[Fault], contents: Contents) -> None:
        lines = (
            f"{file}: {fault.key}: {fault.reason}" if fault.key else f"{file}: {fault.reason}"
            for fault in faults
        )
        super().__init__("\n".join(lines))
        self.faults = tuple(faults)
        self.contents = contents
        """The files that were read, or could not be: another try needs a change of one."""
