"""Which operation a name refers to if several plugins declare it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest

from batchd.domain.operations import (
    Operation,
    OperationCall,
    OperationRequest,
    OperationResult,
    ValidationIssue,
)
from batchd.domain.ports import StartupError
from batchd.services.operation_registry import OperationRegistry


@dataclass(frozen=True)
class Named:
    name: str

    def check(self, parts: OperationRequest) -> Sequence[ValidationIssue]:
        return ()

    async def run(self, call: OperationCall) -> OperationResult:
        raise NotImplementedError


class Changing:
    def __init__(self, *names: str) -> None:
        self.operations = {name: Named(name) for name in names}

    def find(self, name: str) -> Operation | None:
        return self.operations.get(name)

    def names(self) -> Iterable[str]:
        return list(self.operations)


@pytest.fixture
def registry() -> OperationRegistry:
    operations = OperationRegistry(reserved=["create_batch", "get_batch"])
    operations.add(Named("get_batch"))
    return operations


def test_current_operations_of_a_source_are_found(registry: OperationRegistry) -> None:
    source = Changing("old")
    registry.add_source(source)
    assert list(registry) == ["get_batch", "old"]
    source.operations = {"new": Named("new")}
    assert list(registry) == ["get_batch", "new"]
    assert registry.find("old") is None
    assert registry.find("new") is source.operations["new"]


@pytest.mark.parametrize("name", ["get_batch", "create_batch", "other"])
def test_source_with_a_reserved_name_prevents_the_start(
    registry: OperationRegistry, name: str
) -> None:
    registry.add_source(Changing("other"))
    with pytest.raises(StartupError, match=name):
        registry.add_source(Changing(name))


@pytest.mark.parametrize("name", ["get_batch", "create_batch"])
def test_source_never_replaces_an_existing_operation(
    registry: OperationRegistry, name: str
) -> None:
    before = registry.find(name)
    source = Changing()
    registry.add_source(source)
    source.operations = {name: Named(name)}
    assert registry.is_reserved(name)
    assert registry.find(name) is before
    assert list(registry) == ["get_batch"]
