"""The operations of the file in force, replaced all at once when the file changes."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from batchd.plugins.http_operations.bad_file import BadOperations
from batchd.plugins.http_operations.declaration import Declaration
from batchd.plugins.http_operations.loading import Contents, load, read_again
from batchd.plugins.http_operations.operation import HttpOperation, Means
from batchd.plugins.http_operations.places import Places

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5


class HttpOperations:
    """Implements `domain.operations.OperationSource`."""

    def __init__(
        self,
        file: Path,
        means: Means,
        *,
        variables: Mapping[str, str],
        taken: Callable[[str], bool],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._file = file
        self._means = means
        self._variables = variables
        self._taken = taken
        self._look_every_s = look_every_s
        self._operations: Mapping[str, HttpOperation] = {}
        self._places: dict[tuple[str, int], Places] = {}
        self._seen: Contents = {}

    def find(self, name: str) -> HttpOperation | None:
        return self._operations.get(name)

    def names(self) -> Iterable[str]:
        return tuple(self._operations)

    async def load(self) -> None:
        """Put the file in force. Raises BadOperations; then what was in force stays so."""
        try:
            loaded = await asyncio.to_thread(load, self._file, self._variables, self._taken)
        except BadOperations as error:
            self._seen = error.contents
            raise
        self._seen = loaded.contents
        self._operations = {
            name: HttpOperation(name, declaration, self._means, self._places_of(name, declaration))
            for name, declaration in loaded.declarations.items()
        }
        logger.info("operations in force: %s, from %s", ", ".join(self._operations), self._file)

    async def follow(self) -> None:
        """Put each change of the file, or of those it names, in force.

        Contents are compared: that sees every way of replacing a file, on every file system.
        """
        while True:
            await asyncio.sleep(self._look_every_s)
            found = await self._look()
            if found == self._seen:
                continue
            # Perhaps it is being written, and half a file can be a good one: wait till it rests.
            await asyncio.sleep(self._look_every_s)
            if await self._look() != found:
                continue
            self._seen = found
            try:
                await self.load()
            except BadOperations as error:
                logger.error("the operations stay as they were: %s", error)  # noqa: TRY400
            except Exception:
                logger.exception("the operations stay as they were")

    async def _look(self) -> Contents:
        return await asyncio.to_thread(read_again, self._seen)

    def _places_of(self, name: str, declaration: Declaration) -> Places:
        """Return the same places for the same bound: calls of before the change count too."""
        key = (name, declaration.concurrency)
        return self._places.setdefault(key, Places(declaration.concurrency))
