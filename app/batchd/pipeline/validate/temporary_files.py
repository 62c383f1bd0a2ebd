"""Temporary files for data that grows with a batch file: in memory while small."""

from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Self


class TemporaryFiles:
    """A context manager that owns temporary files and deletes them on exit."""

    def __init__(self) -> None:
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.close()

    def _new_file(self, *, memory: int) -> IO[bytes]:
        """Return a file that is kept in memory up to so many bytes."""
        return self._files.enter_context(SpooledTemporaryFile(max_size=memory))
