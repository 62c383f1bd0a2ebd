"""The operations that can be run in batches, by name."""

from collections.abc import Collection, Iterator

from batchd.domain.operations import Operation, OperationSource
from batchd.domain.ports import StartupError


class OperationRegistry:
    """Looked up when a batch is created and when its lines run.

    Filled after the services are built, because batchd's own operations call them. Operations that
    were added take precedence over those of sources, which may change at any time.
    """

    def __init__(self, *, reserved: Collection[str] = ()) -> None:
        """Take the names of permissions that no source may use for an operation."""
        self._reserved = frozenset(reserved)
        self._by_name: dict[str, Operation] = {}
        self._sources: list[OperationSource] = []

    def add(self, operation: Operation) -> None:
        if operation.name in self._by_name:
            raise ValueError(f"two operations have the name '{operation.name}'")
        self._by_name[operation.name] = operation

    def add_source(self, source: OperationSource) -> None:
        """Raise StartupError if it has an operation whose name is taken."""
        for name in source.names():
            if self.is_reserved(name) or self.find(name) is not None:
                raise StartupError(f"two operations, or permissions, have the name '{name}'")
        self._sources.append(source)

    def is_reserved(self, name: str) -> bool:
        return name in self._reserved or name in self._by_name

    def find(self, name: str) -> Operation | None:
        operation = self._by_name.get(name)
        if operation is None and name not in self._reserved:
            operation = next(filter(None, (source.find(name) for source in self._sources)), None)
        return operation

    def __iter__(self) -> Iterator[str]:
        names = {name for source in self._sources for name in source.names()}
        return iter(sorted(names - self._reserved | self._by_name.keys()))
