"""Each row of the table is consistent with its HTTP method and its parameters."""

import pytest

from batchd.operations.table import OPERATIONS, AnyOperation

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda row: row.name)


@each_operation
def test_read_only_operations_are_those_called_by_get(operation: AnyOperation) -> None:
    assert operation.read_only == (operation.method == "GET")


@each_operation
def test_operations_on_batches_and_uploads_are_owned(operation: AnyOperation) -> None:
    schemas = (operation.path_schema, operation.body_schema)
    fields = {field for schema in schemas if schema for field in schema.__struct_fields__}
    acts_on_one = not fields.isdisjoint({"batch", "handler"})
    assert operation.owned == (acts_on_one or operation.name == "get_batches")
