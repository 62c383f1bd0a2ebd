"""What a Casbin policy means."""

from pathlib import Path

import pytest

from batchd.domain.ids import AccountId
from batchd.domain.permission import OTHER_USER, Decision
from batchd.plugins.casbin import casbin_authorizer
from tests.support.policies import (
    COLLEAGUE,
    OURS,
    THEIRS,
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


def test_what_no_rule_allows_is_denied(tmp_path: Path) -> None:
    decision = decide(
        write_policy(tmp_path, "p, clerk, *, get_batch, allow"), "clerk", "get_batches"
    )

    assert not decision.allowed
    assert decision.rule is None


def test_decision_names_the_rule_and_where_it_stands(tmp_path: Path) -> None:
    folder = write_policy(tmp_path, "# clerks look", "", "p,clerk,*,get_batch,allow")

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
def test_deny_wins_whatever_the_order_the_breadth_and_the_line_of_descent(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    decision = decide(write_policy(tmp_path, *lines), "clerk")

    assert not decision.allowed
    assert decision.rule is not None
    assert decision.rule.endswith("deny")


def test_everything_but_one_operation(tmp_path: Path) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, *, allow", "p, clerk, *, delete_batch, deny")

    assert decide(folder, "clerk", "create_batch").allowed
    assert not decide(folder, "clerk", "delete_batch").allowed


def test_rule_for_one_account_says_nothing_about_another(tmp_path: Path) -> None:
    folder = write_policy(
        tmp_path,
        f"p, clerk, {OURS}, get_batch, allow",
        "p, boss, *, get_batch, allow",
        f"p, boss, {THEIRS}, get_batch, deny",
    )

    assert decide(folder, "clerk", account=OURS).allowed
    assert not decide(folder, "clerk", account=THEIRS).allowed
    assert decide(folder, "boss", account=OURS).allowed
    assert not decide(folder, "boss", account=THEIRS).allowed


def test_role_inherits_through_roles_and_not_the_other_way(tmp_path: Path) -> None:
    folder = write_policy(
        tmp_path,
        "g, boss, clerk",
        "g, clerk, guest",
        "p, guest, *, get_batch, allow",
        "p, boss, *, delete_batch, allow",
    )

    assert decide(folder, "boss").allowed
    assert not decide(folder, "guest", "delete_batch").allowed


def test_denial_at_the_end_of_the_longest_chain_counts(tmp_path: Path) -> None:
    chain = [f"g, role_{n}, role_{n + 1}" for n in range(9)]
    folder = write_policy(tmp_path, *chain, "p, role_0, *, *, allow", "p, role_9, *, *, deny")

    assert not decide(folder, "role_0").allowed


def test_all_files_together_are_the_policy(tmp_path: Path) -> None:
    write_policy(tmp_path, "p, clerk, *, *, allow", "g, boss, clerk")
    (tmp_path / "limits.csv").write_text("p, clerk, *, delete_batch, deny")

    assert decide(tmp_path, "boss", "get_batch").rule == "roles.csv:1: p, clerk, *, *, allow"
    assert (
        decide(tmp_path, "boss", "delete_batch").rule
        == "limits.csv:1: p, clerk, *, delete_batch, deny"
    )


def test_repeated_rule_counts_once_where_it_first_stands(tmp_path: Path) -> None:
    folder = write_policy(tmp_path, *["p, clerk, *, get_batch, allow"] * 3)

    assert decide(folder, "clerk").rule == "roles.csv:1: p, clerk, *, get_batch, allow"


def test_files_from_editors_and_spreadsheets_are_read(tmp_path: Path) -> None:
    write_policy(tmp_path)
    (tmp_path / "roles.csv").write_bytes(b'\xef\xbb\xbfp,"clerk",*,get_batch,allow\r\n\r\n')
    (tmp_path / ".#roles.csv").symlink_to("somebody@somewhere.1234")

    assert decide(tmp_path, "clerk").allowed


@pytest.mark.parametrize("operation", ["*", "", "GET_BATCH", "get_batch ", "x" * 65])
def test_strange_operation_is_covered_by_the_asterisk_alone(tmp_path: Path, operation: str) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, get_batch, allow", "p, boss, *, *, allow")

    assert not decide(folder, "clerk", operation).allowed
    assert decide(folder, "boss", operation).allowed


def test_rule_limited_to_own_batches_says_nothing_about_others(tmp_path: Path) -> None:
    folder = write_policy(
        tmp_path, "p, clerk, *, get_batch, allow, own", "p, boss, *, get_batch, allow, any"
    )

    assert (
        decide(folder, "clerk", own=True).rule == "roles.csv:1: p, clerk, *, get_batch, allow, own"
    )
    assert not decide(folder, "clerk", own=False).allowed
    assert decide(folder, "boss", own=False).allowed


def test_denial_limited_to_own_batches_leaves_the_others(tmp_path: Path) -> None:
    """Four eyes: who made a batch must not be the one that deletes it."""
    folder = write_policy(tmp_path, "p, clerk, *, *, allow", "p, clerk, *, delete_batch, deny, own")

    assert not decide(folder, "clerk", "delete_batch", own=True).allowed
    assert decide(folder, "clerk", "delete_batch", own=False).allowed


def test_denial_of_everything_outweighs_a_permission_for_own_batches(tmp_path: Path) -> None:
    folder = write_policy(
        tmp_path, "p, clerk, *, get_batch, allow, own", "g, clerk, base", "p, base, *, *, deny"
    )

    assert not decide(folder, "clerk", own=True).allowed


async def test_what_belongs_to_nobody_is_the_callers_own(tmp_path: Path) -> None:
    write_policy(tmp_path, "p, clerk, *, *, allow, own")

    async with casbin_authorizer(context_of(tmp_path)) as authorizer:
        for owner, allowed in ((None, True), (USER, True), (COLLEAGUE, False), (OTHER_USER, False)):
            decision = await authorizer.decide(access("clerk", "get_batch", owner=owner))
            assert decision.allowed == allowed
