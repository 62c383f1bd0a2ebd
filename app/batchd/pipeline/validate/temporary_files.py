"""Files for what grows with a batch file: in memory while small, gone at the end."""

from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Self


class TemporaryFiles:
    """Something that keeps what it knows in temporary files, for as long as it is entered."""

    def __init__(self) -> None:
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.close()

    def _new_file(self, *, memory: int) -> IO[bytes]:
        """Return a file that is held in memory up to so many bytes."""
        return self._files.enter_context(SpooledTemporaryFile(max_size=memory))
