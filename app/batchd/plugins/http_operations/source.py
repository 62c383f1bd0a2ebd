"""The operations in effect, replaced as a whole when the file changes."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType

from batchd.file_watcher import Contents, watch_files
from batchd.plugins.http_operations.errors import InvalidOperationsFile
from batchd.plugins.http_operations.fair_semaphore import FairSemaphore
from batchd.plugins.http_operations.loader import load_file
from batchd.plugins.http_operations.operation import Dependencies, HttpOperation
from batchd.plugins.http_operations.schema import OperationSchema
from batchd.plugins.http_operations.upstream import Upstream

logger = logging.getLogger(__name__)


class HttpOperations:
    """Implements `domain.operations.OperationSource` and `file_watcher.WatchedFiles`."""

    def __init__(
        self,
        file: Path,
        dependencies: Dependencies,
        *,
        variables: Mapping[str, str],
        is_reserved: Callable[[str], bool],
    ) -> None:
        self._file = file
        self._dependencies = dependencies
        self._variables = variables
        self._is_reserved = is_reserved
        self._operations: Mapping[str, HttpOperation] = {}
        self._semaphores: dict[tuple[str, int], FairSemaphore] = {}
        self._upstreams: dict[str, Upstream] = {}
        """By origin; kept when the file changes, with what was learned of them."""
        self._contents: Contents = {}

    def __str__(self) -> str:
        return str(self._file)

    def find(self, name: str) -> HttpOperation | None:
        return self._operations.get(name)

    def names(self) -> Iterable[str]:
        return tuple(self._operations)

    def files(self) -> Iterable[Path]:
        """Return the file and those that it referred to when it was last loaded."""
        return tuple(self._contents)

    def folders(self) -> Iterable[Path]:
        return {file.parent for file in self._contents}

    def load(self, known_contents: Contents = MappingProxyType({})) -> None:
        """Put the file into effect, reading only files whose contents are not known yet.

        Raises InvalidOperationsFile; the operations then remain as they are.
        """
        try:
            loaded = load_file(self._file, known_contents, self._variables, self._is_reserved)
        except InvalidOperationsFile as error:
            self._contents = error.contents
            raise
        self._contents = loaded.contents
        self._operations = {
            name: HttpOperation(
                name,
                schema,
                self._dependencies,
                self._semaphore(name, schema),
                self._upstream(schema),
            )
            for name, schema in loaded.operations.items()
        }
        self._bound_upstreams(loaded.operations.values())
        logger.info("operations in effect: %s, from %s", ", ".join(self._operations), self._file)

    def watch(self) -> AbstractAsyncContextManager[None]:
        """Put each change of the file, or of those it refers to, into effect."""
        return watch_files(self, self._apply, initial=self._contents)

    def _apply(self, contents: Contents) -> None:
        # A file that is referred to for the first time was read when it was loaded.
        if contents == self._contents:
            return
        try:
            self.load(contents)
        except InvalidOperationsFile as error:
            logger.error("the operations remain unchanged: %s", error)  # noqa: TRY400
        except Exception:
            logger.exception("the operations remain unchanged")

    def _semaphore(self, name: str, schema: OperationSchema) -> FairSemaphore:
        """Return the same semaphore for the same limit: calls made before a change count, too."""
        key = (name, schema.concurrency)
        return self._semaphores.setdefault(key, FairSemaphore(schema.concurrency))

    def _upstream(self, schema: OperationSchema) -> Upstream:
        origin = schema.url.origin
        return self._upstreams.setdefault(origin, Upstream(origin, self._dependencies.timing))

    def _bound_upstreams(self, schemas: Iterable[OperationSchema]) -> None:
        """Let each host get what its operations may make together, at most."""
        maxima: Counter[str] = Counter()
        for schema in schemas:
            if schema.adaptive_concurrency:
                maxima[schema.url.origin] += schema.concurrency
        for origin, maximum in maxima.items():
            self._upstreams[origin].set_max_concurrency(maximum)
