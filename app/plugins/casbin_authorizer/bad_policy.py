"""Why a policy on disk cannot take force."""

from pathlib import Path

from batchd.domain.ports import NotStartable


class BadPolicy(NotStartable):
    """A policy file is missing or wrong. `line` is None where the file as a whole is meant."""

    def __init__(self, file: Path, line: int | None, reason: str) -> None:
        super().__init__(f"{file}: {reason}" if line is None else f"{file}:{line}: {reason}")
        self.file = file
        self.line = line
        self.reason = reason


def decode(file: Path, content: bytes) -> str:
    """Return the file's text. Raises BadPolicy."""
    try:
        return content.decode("utf-8-sig")  # spreadsheet programs begin a file with a BOM
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadPolicy(file, line, "not UTF-8") from None
