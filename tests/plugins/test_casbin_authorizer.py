"""The Casbin authorizer: what a policy means, which is refused, how often Casbin is asked."""

import asyncio
import logging
import re
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import casbin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchd.domain.callers import Caller
from batchd.domain.ids import AccountId, UserId
from batchd.domain.ports import Access, Decision
from batchd.plugins.casbin_authorizer import (
    BadPolicy,
    CasbinAuthorizer,
    casbin_authorizer,
    load_policy,
)
from batchd.settings import Settings, read_settings

MODEL = (Path(__file__).parents[2] / "policies" / "model.conf").read_text()
OURS = AccountId(UUID("0198c0de-0000-7000-8000-00000000000a"))
THEIRS = AccountId(UUID("0198c0de-0000-7000-8000-00000000000b"))
USER = UserId(UUID("0198c0de-0000-7000-8000-0000000000ff"))


def write_policy(folder: Path, *lines: str) -> Path:
    """Make the folder hold the model and one file of rules, and return it."""
    (folder / "model.conf").write_text(MODEL)
    (folder / "roles.csv").write_text("".join(f"{line}\n" for line in lines))
    return folder


def decide(
    folder: Path, role: str, operation: str = "get_batch", account: AccountId = OURS
) -> Decision:
    return load_policy(folder).decide(role, account, operation)


def access(role: str, operation: str, account: AccountId = OURS) -> Access:
    return Access(caller=Caller(account=account, user=USER, role=role), operation=operation)


class Casbin:
    """Counts what Casbin's own enforcer is asked, and lets it answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, ...]] = []
        enforce_ex = casbin.Enforcer.enforce_ex

        def counting(enforcer: casbin.Enforcer, *question: str) -> object:
            self.asked.append(question)
            return enforce_ex(enforcer, *question)

        monkeypatch.setattr(casbin.Enforcer, "enforce_ex", counting)


@pytest.fixture
def casbin_calls(monkeypatch: pytest.MonkeyPatch) -> Casbin:
    return Casbin(monkeypatch)


# What a policy means


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


ROLES = ("boss", "clerk", "guest", "intern")
rules = st.tuples(
    st.just("p"),
    st.sampled_from(ROLES),
    st.sampled_from(["*", str(OURS), str(THEIRS)]),
    st.sampled_from(["*", "get_batch", "delete_batch"]),
    st.sampled_from(["allow", "deny"]),
)
links = (  # a role inherits from later ones only: never from itself
    st.tuples(st.integers(0, 3), st.integers(0, 3))
    .filter(lambda pair: pair[0] < pair[1])
    .map(lambda pair: ("g", ROLES[pair[0]], ROLES[pair[1]]))
)
statements = st.tuples(
    st.lists(rules, min_size=1, max_size=12, unique=True), st.lists(links, max_size=5)
).flatmap(lambda both: st.permutations([*both[0], *both[1]]))


@given(statements)
@settings(deadline=None)
def test_decides_as_a_plain_enforcer_does(lines: list[tuple[str, ...]]) -> None:
    with TemporaryDirectory() as name:
        folder = write_policy(Path(name), *(", ".join(line) for line in lines))
        policy = load_policy(folder)
        plain = casbin.Enforcer(str(folder / "model.conf"), str(folder / "roles.csv"))

    for role, account, operation in product(
        (*ROLES, "stranger"),
        (OURS, THEIRS, AccountId(USER)),
        ("get_batch", "delete_batch", "get_batches"),
    ):
        allowed, explained = plain.enforce_ex(role, str(account), operation)
        decision = policy.decide(role, account, operation)
        assert decision.allowed == allowed
        rule = decision.rule and decision.rule.partition(": ")[2]
        assert rule == (", ".join(["p", *explained]) if explained else None)


# How often Casbin is asked


async def test_casbin_decides_each_case_once(tmp_path: Path, casbin_calls: Casbin) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, get_batch, allow")
    authorizer = CasbinAuthorizer(load_policy(folder))

    for _ in range(3):
        assert (await authorizer.decide(access("clerk", "get_batch"))).allowed
        assert not (await authorizer.decide(access("clerk", "delete_batch"))).allowed
        assert (await authorizer.decide(access("clerk", "get_batch", THEIRS))).allowed

    assert casbin_calls.asked == [
        ("clerk", str(OURS), "get_batch"),
        ("clerk", str(OURS), "delete_batch"),
        ("clerk", str(THEIRS), "get_batch"),
    ]


async def test_another_policy_does_not_remember_the_decisions_of_the_last(tmp_path: Path) -> None:
    authorizer = CasbinAuthorizer(load_policy(write_policy(tmp_path, "p, clerk, *, *, allow")))
    before = await authorizer.decide(access("clerk", "get_batch"))

    authorizer.policy = load_policy(write_policy(tmp_path, "p, clerk, *, *, deny"))
    after = await authorizer.decide(access("clerk", "get_batch"))

    assert (before.allowed, after.allowed) == (True, False)
    assert before.revision != after.revision


def test_text_too_long_for_an_operation_takes_no_memory(
    tmp_path: Path, casbin_calls: Casbin
) -> None:
    policy = load_policy(write_policy(tmp_path, "p, clerk, *, get_batch, allow"))

    for _ in range(2):
        assert not policy.decide("clerk", OURS, "x" * 60_000).allowed

    assert len(casbin_calls.asked) == 2


@pytest.fixture
def threads_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_change_often")
async def test_threads_that_ask_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    roles = [f"role_{n}" for n in range(200)]
    policy = load_policy(
        write_policy(tmp_path, *(f"p, {role}, *, get_batch, allow" for role in roles[::2]))
    )

    decisions = await asyncio.gather(
        *(asyncio.to_thread(policy.decide, role, OURS, "get_batch") for role in roles)
    )

    assert [decision.allowed for decision in decisions] == [True, False] * 100


def test_revision_is_the_content_of_the_files(tmp_path: Path) -> None:
    def revision(folder: str, line: str, file: str = "roles.csv") -> str:
        path = tmp_path / folder
        path.mkdir()
        (path / "model.conf").write_text(MODEL)
        (path / file).write_text(line)
        return load_policy(path).revision

    first = revision("first", "p, clerk, *, *, allow")

    assert revision("same", "p, clerk, *, *, allow") == first
    assert revision("other_line", "p, chief, *, *, allow") != first
    assert revision("other_file", "p, clerk, *, *, allow", "clerks.csv") != first


@pytest.fixture
def casbin_loggers_as_new() -> Iterator[None]:
    """Undo what earlier enforcers did to Casbin's loggers."""
    loggers = [logging.getLogger(f"casbin{name}") for name in ("", ".policy", ".enforcer", ".role")]
    before = [(logger, logger.disabled, logger.level) for logger in loggers]
    for logger in loggers:
        logger.disabled = False
        logger.setLevel(logging.NOTSET)
    yield
    for logger, disabled, level in before:
        logger.disabled = disabled
        logger.setLevel(level)


@pytest.mark.usefixtures("casbin_loggers_as_new")
def test_casbin_itself_logs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    decide(write_policy(tmp_path, "g, boss, clerk", "p, clerk, *, get_batch, allow"), "guest")

    assert not [record for record in caplog.records if record.name.startswith("casbin")]


# Which policy is refused


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("p, clerk, *, get_batch, permit", "unknown effect 'permit'"),
        ("p, clerk, *, get_batch, al", "unknown effect 'al'"),
        ("p, clerk, *, get_batch, Allow", "unknown effect 'Allow'"),
        ("p, clerk, *, get_batch, allow # why not", "unknown effect 'allow # why not'"),
        ("p, clerk, *, get_batch", "4 columns"),
        ("p, clerk, *, get_batch, allow, deny", "6 columns"),
        ("g, clerk", "2 columns"),
        ("g, clerk, guest, *", "4 columns"),
        ("clerk, *, get_batch, allow", "not 'clerk'"),
        ("p2, clerk, *, get_batch, allow", "not 'p2'"),
        ("p clerk * get_batch allow", "not 'p clerk * get_batch allow'"),
        ("p, , *, get_batch, allow", "'' is not a role"),
        ("p, *, *, get_batch, deny", "'*' is not a role"),
        ("g, *, clerk", "'*' is not a role"),
        ("g, clerk, the guest", "'the guest' is not a role"),
        ("p, clerk, ours, get_batch, allow", "'ours' is not an account"),
        (f"p, clerk, {str(OURS).upper()}, get_batch, allow", "is not an account"),
        ("p, clerk, *, get_*, allow", "'get_*' is not an operation"),
        ("p, clerk, *, GET_BATCH, allow", "'GET_BATCH' is not an operation"),
        (f"p, clerk, *, {'x' * 65}, allow", "is not an operation"),
        ('p, "clerk, *, get_batch, allow', "not a line of CSV"),
        ('p, "clerk"s, *, get_batch, allow', "not a line of CSV"),
    ],
)
def test_bad_line_is_refused_with_file_line_and_reason(
    tmp_path: Path, line: str, reason: str
) -> None:
    folder = write_policy(tmp_path, "# roles", "", "p, clerk, *, get_batch, allow", line)

    with pytest.raises(BadPolicy, match=re.escape(reason)) as refused:
        load_policy(folder)

    assert (refused.value.file, refused.value.line) == (folder / "roles.csv", 4)
    assert str(refused.value).startswith(f"{folder / 'roles.csv'}:4: ")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["g, clerk, clerk"], "role clerk inherits itself: clerk > clerk"),
        (["g, boss, clerk", "g, clerk, boss"], "inherits itself"),
        (["g, boss, clerk", "g, clerk, guest", "g, guest, boss"], "inherits itself"),
        (
            [f"g, role_{n}, role_{n + 1}" for n in range(9, -1, -1)],
            "role_0 inherits over more than 9",
        ),
    ],
)
def test_inheritance_in_a_circle_or_too_far_is_refused(
    tmp_path: Path, lines: list[str], reason: str
) -> None:
    folder = write_policy(tmp_path, "p, clerk, *, get_batch, allow", *lines)

    with pytest.raises(BadPolicy, match=reason) as refused:
        load_policy(folder)

    assert (refused.value.file, refused.value.line) == (folder / "roles.csv", len(lines) + 1)


def test_circle_over_two_files_is_refused(tmp_path: Path) -> None:
    write_policy(tmp_path, "p, clerk, *, get_batch, allow", "g, clerk, boss")
    (tmp_path / "bosses.csv").write_text("g, boss, clerk\n")

    with pytest.raises(BadPolicy, match=r"roles\.csv:2: role \w+ inherits itself"):
        load_policy(tmp_path)


def test_line_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    write_policy(tmp_path)
    (tmp_path / "roles.csv").write_bytes(b"p, clerk, *, get_batch, allow\np, b\xe4r, *, *, allow\n")

    with pytest.raises(BadPolicy, match=r"roles\.csv:2: not UTF-8"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", None, "must define r = role, account, operation, and"),
        ("not a model\n", 1, "not a Casbin model"),
        (MODEL.replace("p = role, account, operation, eft", "p = role, operation, eft"), 9, "p ="),
        (MODEL.replace("g = _, _", "g = _, _, _"), 13, "g = _, _, and"),
        (MODEL.replace("[role_definition]\ng = _, _", ""), None, "g = _, _, and"),
        (MODEL.replace("g = _, _", "g = _, _\ng2 = _, _"), 13, "g = _, _, and nothing beside it"),
        (MODEL.replace(" && !some(where (p.eft == deny))", ""), 17, "e = some(where (p.eft"),
        (MODEL.replace("g(r.role, p.role)", "true"), 20, "m = "),
        (MODEL.replace('"*"', '"* "'), 20, "m = "),
    ],
)
def test_another_model_is_refused(tmp_path: Path, text: str, line: int | None, reason: str) -> None:
    write_policy(tmp_path, "p, clerk, *, get_batch, allow")
    (tmp_path / "model.conf").write_text(text)

    with pytest.raises(BadPolicy, match=re.escape(reason)) as refused:
        load_policy(tmp_path)

    assert (refused.value.file, refused.value.line) == (tmp_path / "model.conf", line)


def test_spacing_and_comments_of_the_model_are_free(tmp_path: Path) -> None:
    write_policy(tmp_path, "p, clerk, *, get_batch, allow")
    spaced = (
        MODEL.replace(" = ", "=")
        .replace(" == ", "  ==  ")
        .replace(" && ", " \\\n   && ")
        .replace("\n", "\r\n")
    )
    (tmp_path / "model.conf").write_bytes(b"; ours\r\n" + spaced.encode())

    assert decide(tmp_path, "clerk").allowed


# How it starts


def settings_for(policies: Path) -> Settings:
    return read_settings(database_url="postgresql://unused", s3_bucket="unused", policies=policies)


async def test_settings_name_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_policy(tmp_path, "p, clerk, *, get_batch, allow")

    async with casbin_authorizer(settings_for(tmp_path)) as authorizer:
        decision = await authorizer.decide(access("clerk", "get_batch"))

    assert decision.allowed
    assert f"policy {decision.revision} in force: 1 rules from {tmp_path}" in caplog.messages


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("policies", r"policies: no policy folder: No such file"),
        ("policies/model.conf", r"model\.conf: No such file"),
        ("policies/roles.csv", r"policies: there is no \.csv file"),
    ],
)
async def test_nothing_starts_without_a_policy(tmp_path: Path, missing: str, message: str) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    write_policy(folder, "p, clerk, *, get_batch, allow")
    (tmp_path / missing).rename(tmp_path / "elsewhere")

    with pytest.raises(BadPolicy, match=message):
        async with casbin_authorizer(settings_for(folder)):
            pytest.fail("it started")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"roles\.csv: there is no statement in it"),
        ("# p, clerk, *, get_batch, allow\n\n", r"roles\.csv: there is no statement in it"),
        ("g, boss, clerk\n", r"no \.csv file has a rule"),
    ],
)
def test_policy_that_says_nothing_is_refused(tmp_path: Path, content: str, message: str) -> None:
    write_policy(tmp_path)
    (tmp_path / "roles.csv").write_text(content)

    with pytest.raises(BadPolicy, match=message):
        load_policy(tmp_path)
