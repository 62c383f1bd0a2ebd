"""The permissions of each role that ships with batchd."""

from pathlib import Path
from uuid import uuid4

import pytest

from batchd.bootstrap import authorizer_context
from batchd.domain.ids import AccountId
from batchd.plugins.casbin import KnownOperations, Policy, load_policy

OPERATIONS = {
    "get_batch": {"reader", "submitter", "operator", "admin"},
    "get_batches": {"reader", "submitter", "operator", "admin"},
    "create_upload_url": {"submitter", "admin"},
    "invalidate_upload_url": {"submitter", "operator", "admin"},
    "create_batch": {"submitter", "admin"},
    "update_batch": {"submitter", "operator", "admin"},
    "delete_batch": {"operator", "admin"},
    "an_operation_of_a_plugin": {"admin"},
}
"""The roles that may perform each operation."""
ROLES = ("reader", "submitter", "operator", "admin", "an_undefined_role", "*", "")


@pytest.fixture(scope="module")
def shipped() -> Policy:
    context = authorizer_context({})
    known_operations = KnownOperations(
        names=context.operations, owned=context.owned_operations, others_possible=False
    )
    return load_policy(Path(__file__).parents[2] / "policies", known_operations)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_shipped_role_has_exactly_the_permissions_of_the_table(
    shipped: Policy, role: str, operation: str
) -> None:
    decision = shipped.decide(role, AccountId(uuid4()), operation)

    assert decision.allowed == (role in OPERATIONS[operation])
