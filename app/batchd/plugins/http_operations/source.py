"""The operations of the file in force, replaced all at once when the file changes."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType

from batchd.file_watcher import Contents, watch_files
from batchd.plugins.http_operations.errors import InvalidOperationsFile
from batchd.plugins.http_operations.fair_semaphore import FairSemaphore
from batchd.plugins.http_operations.loader import load
from batchd.plugins.http_operations.operation import Dependencies, HttpOperation
from batchd.plugins.http_operations.schema import OperationSchema

logger = logging.getLogger(__name__)


class HttpOperations:
    """Implements `domain.operations.OperationSource`, and `WatchedFiles`."""

    def __init__(
        self,
        file: Path,
        means: Dependencies,
        *,
        variables: Mapping[str, str],
        taken: Callable[[str], bool],
    ) -> None:
        self._file = file
        self._means = means
        self._variables = variables
        self._taken = taken
        self._operations: Mapping[str, HttpOperation] = {}
        self._places: dict[tuple[str, int], FairSemaphore] = {}
        self._contents: Contents = {}

    def __str__(self) -> str:
        return str(self._file)

    def find(self, name: str) -> HttpOperation | None:
        return self._operations.get(name)

    def names(self) -> Iterable[str]:
        return tuple(self._operations)

    def files(self) -> Iterable[Path]:
        """Return the file and those that it named when it was last read."""
        return tuple(self._contents)

    def folders(self) -> Iterable[Path]:
        return {file.parent for file in self._contents}

    def load(self, known: Contents = MappingProxyType({})) -> None:
        """Put the file in force, reading what is not known.

        Raises InvalidOperationsFile; then what was in force stays so.
        """
        try:
            loaded = load(self._file, known, self._variables, self._taken)
        except InvalidOperationsFile as error:
            self._contents = error.contents
            raise
        self._contents = loaded.contents
        self._operations = {
            name: HttpOperation(name, declaration, self._means, self._places_of(name, declaration))
            for name, declaration in loaded.declarations.items()
        }
        logger.info("operations in force: %s, from %s", ", ".join(self._operations), self._file)

    def following(self) -> AbstractAsyncContextManager[None]:
        """Put each change of the file, or of those it names, in force."""
        return watch_files(self, self._take, initial=self._contents)

    def _take(self, contents: Contents) -> None:
        # A file that is named for the first time is looked at from then on, and was read at once.
        if contents == self._contents:
            return
        try:
            self.load(contents)
        except InvalidOperationsFile as error:
            logger.error("the operations stay as they were: %s", error)  # noqa: TRY400
        except Exception:
            logger.exception("the operations stay as they were")

    def _places_of(self, name: str, declaration: OperationSchema) -> FairSemaphore:
        """Return the same places for the same bound: calls of before the change count too."""
        key = (name, declaration.concurrency)
        return self._places.setdefault(key, FairSemaphore(declaration.concurrency))
