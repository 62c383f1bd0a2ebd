"""`batchd policy`: the output of each tool, for people and for programs, and the exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import batchd, environment
from tests.support.policies import OURS, SHIPPED, write_policy
from tests.support.shell import run

ROLES = (
    "p, admin, *, *, allow",
    "p, reader, *, get_batch, allow",
    "p, reader, *, get_batches, allow",
    "g, clerk, reader",
    "p, clerk, *, delete_batch, allow, own",
    f"p, clerk, {OURS}, get_batch, deny",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_policy(tmp_path, *ROLES)


def printed(*arguments: object, code: int = 0) -> list[Any]:
    """Return what a program is told, one JSON value a line."""
    result = run("policy", *arguments, "--json")
    assert result.code == code, result
    return [json.loads(line) for line in result.output.splitlines()]


# check


def test_check_accepts_the_shipped_policies() -> None:
    assert run("policy", "check", "--strict", f"--policies={SHIPPED}").code == 0


def warnings(folder: Path, *more: str, code: int = 0) -> list[tuple[int | None, str]]:
    write_policy(folder, *ROLES, *more)
    (report,) = printed("check", f"--policies={folder}", code=code)
    return [(finding["line"], finding["reason"]) for finding in report["found"]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "p, clerk, *, get_batch, allow, own",
            "has no effect: covered by roles.csv:2: p, reader, *, get_batch, allow",
        ),
        (
            f"p, clerk, {OURS}, get_batches, allow",
            "has no effect: covered by roles.csv:3: p, reader, *, get_batches, allow",
        ),
        (
            f"p, clerk, {OURS}, get_batch, deny, own",
            f"has no effect: covered by roles.csv:6: p, clerk, {OURS}, get_batch, deny",
        ),
        ("p, reader, *, get_batch, allow", "duplicates roles.csv:2"),
        ("p, clerk, *, who_am_i, allow", "has no effect: who_am_i requires no permission"),
        ("p, clerk, *, create_upload_url, allow, own", "'own' has no effect in"),
        ("g, clerk, raeder", "role raeder has no rules"),
    ],
)
def test_check_warns_of_probable_mistakes(folder: Path, line: str, reason: str) -> None:
    ((number, finding),) = warnings(folder, line)

    assert number == len(ROLES) + 1
    assert reason in finding


def test_check_warns_of_a_rule_that_a_denial_overrules(folder: Path) -> None:
    write_policy(folder, *ROLES, "p, boss, *, *, deny", "p, boss, *, get_batch, allow")
    (report,) = printed("check", f"--policies={folder}")

    (finding,) = report["found"]
    assert finding["reason"] == (
        "'p, boss, *, get_batch, allow' has no effect: "
        "overruled by roles.csv:7: p, boss, *, *, deny"
    )


def test_check_warns_of_operations_that_nobody_may_perform(tmp_path: Path) -> None:
    write_policy(
        tmp_path,
        "p, boss, *, *, allow, own",
        "p, boss, *, create_batch, deny",
        f"p, clerk, {OURS}, delete_batch, allow",
        "p, boss, *, delete_batch, deny",
    )
    (report,) = printed("check", f"--policies={tmp_path}")

    assert "no role may perform create_batch" in [finding["reason"] for finding in report["found"]]
    assert "delete_batch" not in " ".join(
        finding["reason"] for finding in report["found"] if "no role" in finding["reason"]
    )


def test_check_reports_every_error_and_fails(folder: Path) -> None:
    write_policy(folder, "p, clerk, *, get_batch, alow", "g, clerk")
    (report,) = printed("check", f"--policies={folder}", code=1)

    assert (report["ok"], report["revision"]) == (False, None)
    assert [(entry["level"], entry["file"], entry["line"]) for entry in report["found"]] == [
        ("error", "roles.csv", 1),
        ("error", "roles.csv", 2),
    ]
    assert "unknown effect 'alow'" in run("policy", "check", f"--policies={folder}").output


def test_check_accepts_declared_operations(folder: Path) -> None:
    write_policy(folder, *ROLES, "p, clerk, *, create_invoice, allow")
    declared = folder / "operations.toml"
    declared.write_text("[operations.create_invoice]\n")

    (unknown,) = printed("check", f"--policies={folder}", code=1)
    (finding,) = printed("check", f"--policies={folder}", f"--operations={declared}")
    declared.write_text("[operations.another]\n")
    (later,) = printed("check", f"--policies={folder}", f"--operations={declared}")

    assert unknown["found"][0]["reason"] == "unknown operation create_invoice"
    assert finding["found"] == []
    assert later["found"][0]["level"] == "warning"
    strict = run("policy", "check", "--strict", f"--policies={folder}", f"--operations={declared}")
    assert strict.code == 1


# explain


def test_explain_names_the_rule_file_and_line(folder: Path) -> None:
    def decisions(*arguments: str) -> list[tuple[str, str, int | None]]:
        (report,) = printed("explain", "--role=clerk", f"--policies={folder}", *arguments)
        return [
            (entry["batches"], entry["decision"], entry["line"]) for entry in report["decisions"]
        ]

    assert decisions("--operation=get_batch") == [("own", "allow", 2), ("others", "allow", 2)]
    assert decisions("--operation=get_batch", f"--account={OURS}") == [
        ("own", "deny", 6),
        ("others", "deny", 6),
    ]
    assert decisions("--operation=delete_batch") == [("own", "allow", 5), ("others", "deny", None)]
    people = run(
        "policy", "explain", "--role=clerk", "--operation=delete_batch", f"--policies={folder}"
    )
    assert people.output.splitlines() == [
        "batches  decision  rule",
        "own      allow     roles.csv:5: p, clerk, *, delete_batch, allow, own",
        "others   deny      no rule matches",
    ]


# diff


def test_diff_reports_who_gains_and_who_loses_what(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    write_policy(
        new,
        *ROLES[:2],
        *ROLES[3:5],
        "p, boss, *, get_batch, allow",
        f"p, reader, {OURS}, update_batch, allow, own",
    )

    changes = printed("diff", folder, new, code=1)

    printed_changes = {
        (entry["gains"], entry["role"], entry["account"], entry["operation"], entry["batches"])
        for entry in changes
    }
    assert printed_changes == {
        (True, "boss", "*", "get_batch", "any"),
        (False, "reader", "*", "get_batches", "any"),
        (False, "clerk", "*", "get_batches", "any"),
        (True, "reader", str(OURS), "update_batch", "own"),
        (True, "clerk", str(OURS), "update_batch", "own"),
        (True, "clerk", str(OURS), "get_batch", "any"),
    }


def test_diff_of_equivalent_policies_is_empty(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    write_policy(new, *reversed(ROLES))
    (new / "more.csv").write_text("p, clerk, *, get_batch, allow, own\n")

    result = run("policy", "diff", folder, new)

    assert (result.code, result.output) == (0, "Nobody gains or loses anything.\n")


def test_diff_with_an_invalid_policy_fails(folder: Path, tmp_path: Path) -> None:
    result = run("policy", "diff", folder, tmp_path / "nowhere")

    assert result.code == 2
    assert "can't read the policy folder" in result.output


# test


def test_cases_are_tested(folder: Path) -> None:
    cases = (
        "reader, *, get_batch, allow",
        "clerk, *, delete_batch, allow, own",
        "clerk, *, delete_batch, deny, others",
        f"clerk, {OURS}, get_batch, deny",
        "clerk, *, delete_batch, allow",
    )
    (folder / "tests.csv").write_text("# cases\n" + "\n".join(cases))

    result = run("policy", "test", f"--policies={folder}")

    assert result.code == 1
    assert result.output.splitlines() == [
        "tests.csv:6: clerk, *, delete_batch: allow expected (any), but: no rule matches",
        "4 of 5 cases as expected",
    ]
    passed = [entry["passed"] for entry in printed("test", f"--policies={folder}", code=1)]
    assert passed == [True, True, True, True, False]


def test_shipped_cases_pass() -> None:
    assert run("policy", "test", f"--policies={SHIPPED}").code == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "tests.csv: the file contains no test cases"),
        ("clerk, *, get_batch", "tests.csv:1: 3 columns"),
        ("clerk, *, get_batch, yes", "tests.csv:1: unknown decision 'yes'"),
        (
            "clerk, *, get_batch, allow, mine",
            "tests.csv:1: unknown ownership 'mine': expected any, own, others",
        ),
    ],
)
def test_malformed_cases_are_refused(folder: Path, text: str, reason: str) -> None:
    (folder / "tests.csv").write_text(text)

    result = run("policy", "test", f"--policies={folder}")

    assert result.code == 2
    assert reason in result.output


# statement


def test_statement_equals_that_of_the_api(folder: Path) -> None:
    (role,) = printed("statement", "--role=clerk", f"--account={OURS}", f"--policies={folder}")

    assert role["inherits"] == ["reader"]
    assert role["statements"][0] == {
        "effect": "deny",
        "actions": ["get_batch"],
        "account": str(OURS),
        "scope": "any",
    }
    assert run("policy", "statement", "--role=nobody", f"--policies={folder}").code == 1


# Where they look


@pytest.mark.slow
async def test_tools_need_only_the_folder_setting(folder: Path) -> None:
    result = await batchd("policy", "check", "--json", env=environment(policies=folder))

    assert result.code == 0, result
    assert json.loads(result.output)["ok"]
