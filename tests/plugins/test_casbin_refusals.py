"""Invalid Casbin policies, and the errors that report them."""

import re
from pathlib import Path

import pytest

from batchd.plugins.casbin import InvalidPolicy, KnownOperations, load_policy
from tests.support.policies import MODEL, OURS, OWNED, load, write_policy


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("p, clerk, *, get_batch, permit", "unknown effect 'permit'"),
        ("p, clerk, *, get_batch, al", "unknown effect 'al'"),
        ("p, clerk, *, get_batch, Allow", "unknown effect 'Allow'"),
        ("p, clerk, *, get_batch, allow # comment", "unknown effect 'allow # comment'"),
        ("p, clerk, *, get_batch", "4 columns"),
        ("p, clerk, *, get_batch, allow, deny", "unknown scope 'deny'"),
        ("p, clerk, *, get_batch, allow, own, own", "7 columns"),
        ("g, clerk", "2 columns"),
        ("g, clerk, guest, *", "4 columns"),
        ("clerk, *, get_batch, allow", "not 'clerk'"),
        ("p2, clerk, *, get_batch, allow", "not 'p2'"),
        ("p clerk * get_batch allow", "not 'p clerk * get_batch allow'"),
        ("p, , *, get_batch, allow", "'' is not a valid role"),
        ("p, *, *, get_batch, deny", "'*' is not a valid role"),
        ("g, *, clerk", "'*' is not a valid role"),
        ("g, clerk, the guest", "'the guest' is not a valid role"),
        ("p, clerk, ours, get_batch, allow", "'ours' is not a valid account"),
        (f"p, clerk, {str(OURS).upper()}, get_batch, allow", "is not a valid account"),
        ("p, clerk, *, get_*, allow", "'get_*' is not a valid operation"),
        ("p, clerk, *, GET_BATCH, allow", "'GET_BATCH' is not a valid operation"),
        (f"p, clerk, *, {'x' * 65}, allow", "is not a valid operation"),
        ('p, "clerk, *, get_batch, allow', "invalid CSV"),
        ('p, "clerk"s, *, get_batch, allow', "invalid CSV"),
    ],
)
def test_invalid_line_is_reported_with_file_line_and_reason(
    tmp_path: Path, line: str, reason: str
) -> None:
    folder = write_policy(tmp_path, "# roles", "", "p, clerk, *, get_batch, allow", line)

    with pytest.raises(InvalidPolicy, match=re.escape(reason)) as raised:
        load(folder)

    assert (raised.value.faults[0].file, raised.value.faults[0].line) == (folder / "roles.csv", 4)
    assert str(raised.value).startswith(f"{folder / 'roles.csv'}:4: ")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["g, clerk, clerk"], "role clerk inherits from itself: clerk > clerk"),
        (["g, boss, clerk", "g, clerk, boss"], "inherits from itself"),
        (["g, boss, clerk", "g, clerk, guest", "g, guest, boss"], "inherits from itself"),
        (
            [f"g, role_{n}, role_{n + 1}" for n in range(9, -1, -1)],
            "role_0 inherits through more than 9",
        ),
    ],
)
def test_cyclic_or_too_deep_inheritance_is_refused(
    tmp_path: Path, lines: list[str], reason: str
) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, get_batch, allow", *lines)

    with pytest.raises(InvalidPolicy, match=reason) as raised:
        load(folder)

    assert (raised.value.faults[0].file, raised.value.faults[0].line) == (
        folder / "roles.csv",
        len(lines) + 1,
    )


def test_cycle_across_two_files_is_refused(tmp_path: Path) -> None:
    write_policy(tmp_path, "p, clerk, *, get_batch, allow", "g, clerk, boss")
    (tmp_path / "bosses.csv").write_text("g, boss, clerk\n")

    with pytest.raises(InvalidPolicy, match=r"roles\.csv:2: role \w+ inherits from itself"):
        load(tmp_path)


def test_line_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    write_policy(tmp_path)
    (tmp_path / "roles.csv").write_bytes(b"p, clerk, *, get_batch, allow\np, b\xe4r, *, *, allow\n")

    with pytest.raises(InvalidPolicy, match=r"roles\.csv:2: not UTF-8"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", None, "must define r = role, account, operation, owner, and"),
        ("not a model\n", 1, "invalid Casbin model"),
        (MODEL.replace("p = role, account, operation, eft", "p = role, operation, eft"), 11, "p ="),
        (MODEL.replace("g = _, _", "g = _, _, _"), 15, "g = _, _, and"),
        (MODEL.replace("[role_definition]\ng = _, _", ""), None, "g = _, _, and"),
        (MODEL.replace("g = _, _", "g = _, _\ng2 = _, _"), 15, "g = _, _, and nothing else"),
        (MODEL.replace(" && !some(where (p.eft == deny))", ""), 19, "e = some(where (p.eft"),
        (MODEL.replace("g(r.role, p.role)", "true"), 22, "m = "),
        (MODEL.replace('"*"', '"* "'), 22, "m = "),
    ],
)
def test_different_model_is_refused(
    tmp_path: Path, text: str, line: int | None, reason: str
) -> None:
    write_policy(tmp_path, "p, clerk, *, get_batch, allow")
    (tmp_path / "model.conf").write_text(text)

    with pytest.raises(InvalidPolicy, match=re.escape(reason)) as raised:
        load(tmp_path)

    assert (raised.value.faults[0].file, raised.value.faults[0].line) == (
        tmp_path / "model.conf",
        line,
    )


def test_spacing_and_comments_of_the_model_are_ignored(tmp_path: Path) -> None:
    write_policy(tmp_path, "p, clerk, *, get_batch, allow")
    spaced = (
        MODEL.replace(" = ", "=")
        .replace(" == ", "  ==  ")
        .replace(" && ", " \\\n   && ")
        .replace("\n", "\r\n")
    )
    (tmp_path / "model.conf").write_bytes(b"; ours\r\n" + spaced.encode())

    assert load(tmp_path).decide("clerk", OURS, "get_batch").allowed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"roles\.csv: the file contains no statements"),
        ("# p, clerk, *, get_batch, allow\n\n", r"roles\.csv: the file contains no statements"),
        ("g, boss, clerk\n", r"no \.csv file contains a rule"),
    ],
)
def test_policy_without_rules_is_refused(tmp_path: Path, content: str, message: str) -> None:
    write_policy(tmp_path)
    (tmp_path / "roles.csv").write_text(content)

    with pytest.raises(InvalidPolicy, match=message):
        load(tmp_path)


def test_every_fault_is_reported(tmp_path: Path) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, get_batch, alow", "p, clerk, *, *, allow", "g, x")
    (folder / "more.csv").write_text("")

    with pytest.raises(InvalidPolicy) as raised:
        load(folder)

    assert [(fault.file.name, fault.line) for fault in raised.value.faults] == [
        ("more.csv", None),
        ("roles.csv", 1),
        ("roles.csv", 3),
    ]
    assert len(str(raised.value).splitlines()) == 3


def test_unknown_operation_is_refused_with_a_suggestion(
    tmp_path: Path,
) -> None:
    write_policy(tmp_path, "p, clerk, *, *, allow", "p, clerk, *, delete_bacth, deny")

    with pytest.raises(
        InvalidPolicy,
        match=r"roles\.csv:2: unknown operation delete_bacth; did you mean delete_batch",
    ):
        load_policy(
            tmp_path,
            KnownOperations(names=frozenset({"delete_batch"}), owned=OWNED, others_possible=False),
        )


def test_operation_that_may_be_defined_later_is_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_policy(tmp_path, "p, clerk, *, create_invoice, allow", "p, clerk, *, delete_bacth, deny")

    policy = load_policy(
        tmp_path,
        KnownOperations(names=frozenset({"delete_batch"}), owned=OWNED, others_possible=True),
    )

    assert policy.decide("clerk", OURS, "create_invoice").allowed
    assert [unknown.rule[2] for unknown in policy.unknown_operations] == [
        "create_invoice",
        "delete_bacth",
    ]
    assert caplog.messages == [
        "roles.csv:2: unknown operation delete_bacth; did you mean delete_batch?"
    ]


def test_test_cases_are_no_part_of_the_policy(tmp_path: Path) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, get_batch, allow")
    before = load(folder).revision
    (folder / "tests.csv").write_text("not a valid rule")

    assert load(folder).revision == before
