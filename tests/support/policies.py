"""Policies as a test writes them, and the questions that it asks."""

from pathlib import Path
from uuid import UUID

from batchd.domain.ids import AccountId, UserId
from batchd.domain.permission import Access, AuthorizerContext
from batchd.domain.users import Caller
from batchd.operations.table import OPERATIONS
from batchd.plugins.casbin import KnownOperations, Policy, load_policy

SHIPPED = Path(__file__).parents[2] / "policies"
MODEL = (SHIPPED / "model.conf").read_text(encoding="utf-8")
OURS = AccountId(UUID("0198c0de-0000-7000-8000-00000000000a"))
OTHER_ACCOUNT = AccountId(UUID("0198c0de-0000-7000-8000-00000000000b"))
USER = UserId(UUID("0198c0de-0000-7000-8000-0000000000ff"))
COLLEAGUE = UserId(UUID("0198c0de-0000-7000-8000-0000000000fe"))
OWNED = frozenset(operation.name for operation in OPERATIONS if operation.owned)
ANYTHING = KnownOperations(names=frozenset(), owned=OWNED, others_possible=True)


def write_policy(folder: Path, *lines: str) -> Path:
    """Write the model and one file of rules into the folder, and return it."""
    (folder / "model.conf").write_text(MODEL, encoding="utf-8")
    (folder / "roles.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def load(folder: Path) -> Policy:
    """Load a policy that may name any operation."""
    return load_policy(folder, ANYTHING)


def access(
    role: str, operation: str, account: AccountId = OURS, owner: UserId | None = None
) -> Access:
    caller = Caller(account=account, user=USER, role=role)
    return Access(caller=caller, operation=operation, owner=owner)


def context_of(
    policies: Path, *operations: str, more_operations: bool = False
) -> AuthorizerContext:
    """Return an authorizer's context in which these operations are known."""
    return AuthorizerContext(
        environment={"BATCHD_POLICIES": str(policies)},
        operations=frozenset({"get_batch", "get_batches", "delete_batch", *operations}),
        owned_operations=OWNED,
        declared_operations=frozenset(),
        more_operations=more_operations,
    )
