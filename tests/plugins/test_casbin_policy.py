"""The decisions of a Casbin policy."""

from pathlib import Path

import pytest

from batchd.domain.ids import AccountId, UserId
from batchd.domain.permission import OTHER_USER, Decision
from batchd.plugins.casbin import casbin_authorizer
from tests.support.policies import (
    COLLEAGUE,
    OTHER_ACCOUNT,
    OURS,
    USER,
    access,
    context_of,
    load,
    write_policy,
)


def decide(
    folder: Path,
    role: str,
    operation: str = "get_batch",
    account: AccountId = OURS,
    *,
    own: bool = True,
) -> Decision:
    return load(folder).decide(role, account, operation, own=own)


def test_denied_without_a_matching_rule(tmp_path: Path) -> None:
    decision = decide(
        write_policy(tmp_path, "p, clerk, *, get_batch, allow"), "clerk", "get_batches"
    )

    assert not decision.allowed
    assert decision.rule is None


def test_decision_names_the_rule_and_its_location(tmp_path: Path) -> None:
    folder = write_policy(tmp_path, "# clerks read", "", "p,clerk,*,get_batch,allow")

    decision = decide(folder, "clerk")

    assert decision.allowed
    assert decision.rule == "roles.csv:3: p, clerk, *, get_batch, allow"


@pytest.mark.parametrize(
    "lines",
    [
        ("p, clerk, *, *, allow", "p, clerk, *, get_batch, deny"),
        ("p, clerk, *, get_batch, deny", "p, clerk, *, *, allow"),
        ("p, clerk, *, get_batch, allow", "p, clerk, *, *, deny"),
        ("p, clerk, *, *, allow", "g, clerk, base", f"p, base, {OURS}, *, deny"),
        ("p, base, *, *, allow", "g, clerk, base", "p, clerk, *, *, deny"),
    ],
)
def test_deny_wins_whatever_the_order_the_scope_and_the_inheritance(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    decision = decide(write_policy(tmp_path, *lines), "clerk")

    assert not decision.allowed
    assert decision.rule is not None
    assert decision.rule.endswith("deny")


def test_all_operations_except_one(tmp_path: Path) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, *, allow", "p, clerk, *, delete_batch, deny")

    assert decide(folder, "clerk", "create_batch").allowed
    assert not decide(folder, "clerk", "delete_batch").allowed


def test_rule_for_one_account_does_not_apply_to_another(tmp_path: Path) -> None:
    folder = write_policy(
        tmp_path,
        f"p, clerk, {OURS}, get_batch, allow",
        "p, boss, *, get_batch, allow",
        f"p, boss, {OTHER_ACCOUNT}, get_batch, deny",
    )

    assert decide(folder, "clerk", account=OURS).allowed
    assert not decide(folder, "clerk", account=OTHER_ACCOUNT).allowed
    assert decide(folder, "boss", account=OURS).allowed
    assert not decide(folder, "boss", account=OTHER_ACCOUNT).allowed


def test_inheritance_is_transitive_and_one_way(tmp_path: Path) -> None:
    folder = write_policy(
        tmp_path,
        "g, boss, clerk",
        "g, clerk, guest",
        "p, guest, *, get_batch, allow",
        "p, boss, *, delete_batch, allow",
    )

    assert decide(folder, "boss").allowed
    assert not decide(folder, "guest", "delete_batch").allowed


def test_denial_at_the_end_of_the_longest_chain_applies(tmp_path: Path) -> None:
    links = [f"g, role_{n}, role_{n + 1}" for n in range(9)]
    folder = write_policy(tmp_path, *links, "p, role_0, *, *, allow", "p, role_9, *, *, deny")

    assert not decide(folder, "role_0").allowed


def test_policy_consists_of_all_files(tmp_path: Path) -> None:
    write_policy(tmp_path, "p, clerk, *, *, allow", "g, boss, clerk")
    (tmp_path / "limits.csv").write_text("p, clerk, *, delete_batch, deny")

    assert decide(tmp_path, "boss", "get_batch").rule == "roles.csv:1: p, clerk, *, *, allow"
    assert (
        decide(tmp_path, "boss", "delete_batch").rule
        == "limits.csv:1: p, clerk, *, delete_batch, deny"
    )


def test_repeated_rule_counts_once_at_its_first_location(tmp_path: Path) -> None:
    folder = write_policy(tmp_path, *["p, clerk, *, get_batch, allow"] * 3)

    assert decide(folder, "clerk").rule == "roles.csv:1: p, clerk, *, get_batch, allow"


def test_files_of_editors_and_spreadsheets_are_read(tmp_path: Path) -> None:
    write_policy(tmp_path)
    (tmp_path / "roles.csv").write_bytes(b'\xef\xbb\xbfp,"clerk",*,get_batch,allow\r\n\r\n')
    (tmp_path / ".#roles.csv").symlink_to("somebody@somewhere.1234")

    assert decide(tmp_path, "clerk").allowed


@pytest.mark.parametrize("operation", ["*", "", "GET_BATCH", "get_batch ", "x" * 65])
def test_unusual_operation_matches_the_asterisk_only(tmp_path: Path, operation: str) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, get_batch, allow", "p, boss, *, *, allow")

    assert not decide(folder, "clerk", operation).allowed
    assert decide(folder, "boss", operation).allowed


def test_rule_for_own_batches_does_not_apply_to_others(tmp_path: Path) -> None:
    folder = write_policy(
        tmp_path, "p, clerk, *, get_batch, allow, own", "p, boss, *, get_batch, allow, any"
    )

    assert (
        decide(folder, "clerk", own=True).rule == "roles.csv:1: p, clerk, *, get_batch, allow, own"
    )
    assert not decide(folder, "clerk", own=False).allowed
    assert decide(folder, "boss", own=False).allowed


def test_denial_for_own_batches_does_not_apply_to_others(tmp_path: Path) -> None:
    """Two-person rule: the creator of a batch must not delete it."""
    folder = write_policy(tmp_path, "p, clerk, *, *, allow", "p, clerk, *, delete_batch, deny, own")

    assert not decide(folder, "clerk", "delete_batch", own=True).allowed
    assert decide(folder, "clerk", "delete_batch", own=False).allowed


def test_denial_for_all_batches_overrules_a_permission_for_own_ones(tmp_path: Path) -> None:
    folder = write_policy(
        tmp_path, "p, clerk, *, get_batch, allow, own", "g, clerk, base", "p, base, *, *, deny"
    )

    assert not decide(folder, "clerk", own=True).allowed


@pytest.mark.parametrize(
    ("owner", "allowed"), [(None, True), (USER, True), (COLLEAGUE, False), (OTHER_USER, False)]
)
async def test_resource_without_an_owner_counts_as_own(
    tmp_path: Path, owner: UserId | None, allowed: bool
) -> None:
    write_policy(tmp_path, "p, clerk, *, *, allow, own")

    async with casbin_authorizer(context_of(tmp_path)) as authorizer:
        decision = await authorizer.decide(access("clerk", "get_batch", owner=owner))

    assert decision.allowed == allowed
