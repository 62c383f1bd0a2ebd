"""The operations that can be run in batches, by name."""

from collections.abc import Collection, Iterator

from batchd.domain.operations import Operation, OperationSource
from batchd.domain.ports import StartupError


class OperationRegistry:
    """Looked up when a batch is made and when its lines run.

    Filled after the services are built, because batchd's own operations call them. Those that are
    added one by one come before those of sources, which change.
    """

    def __init__(self, *, reserved: Collection[str] = ()) -> None:
        """`reserved` are permissions for something else, which no source may lay claim to."""
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
            if self.taken(name) or self.find(name) is not None:
                raise StartupError(f"two operations, or permissions, have the name '{name}'")
        self._sources.append(source)

    def taken(self, name: str) -> bool:
        return name in self._reserved or name in self._by_name

    def find(self, name: str) -> Operation | None:
        found = self._by_name.get(name)
        if found is None and name not in self._reserved:
            found = next(filter(None, (source.find(name) for source in self._sources)), None)
        return found

    def __iter__(self) -> Iterator[str]:
        names = {name for source in self._sources for name in source.names()}
        return iter(sorted(names - self._reserved | self._by_name.keys()))
