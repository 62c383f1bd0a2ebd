"""The error of an invalid operations file, with the key and reason of each fault."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from batchd.domain.ports import StartupError
from batchd.file_watcher import Contents


class Fault(NamedTuple):
    key: str
    """As `operations.NAME.retry.attempts`; empty if the fault concerns the file as a whole."""
    reason: str


class InvalidOperationsFile(StartupError):
    """The file, or one that it refers to, is missing or invalid; the message lists every fault."""

    def __init__(self, file: Path, faults: Sequence[Fault], contents: Contents) -> None:
        lines = (
            f"{file}: {fault.key}: {fault.reason}" if fault.key else f"{file}: {fault.reason}"
            for fault in faults
        )
        super().__init__("\n".join(lines))
        self.faults = tuple(faults)
        self.contents = contents
        """The files that were read, readable or not: loading is retried when one changes."""
