"""The Casbin authorizer: it decides as Casbin does, and fails to start without a policy."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import casbin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchd.domain.ids import AccountId
from batchd.plugins.casbin import InvalidPolicy, casbin_authorizer
from tests.support.policies import (
    MODEL,
    OTHER_ACCOUNT,
    OURS,
    USER,
    access,
    context_of,
    load,
    write_policy,
)

ROLES = ("boss", "clerk", "guest", "intern")
rules = st.tuples(
    st.just("p"),
    st.sampled_from(ROLES),
    st.sampled_from(["*", str(OURS), str(OTHER_ACCOUNT)]),
    st.sampled_from(["*", "get_batch", "delete_batch"]),
    st.sampled_from(["allow", "deny"]),
    st.sampled_from(["any", "own"]),
)
links = (  # a role inherits from later ones only, so there are no cycles
    st.tuples(st.integers(0, 3), st.integers(0, 3))
    .filter(lambda pair: pair[0] < pair[1])
    .map(lambda pair: ("g", ROLES[pair[0]], ROLES[pair[1]]))
)
statements = st.tuples(
    st.lists(rules, min_size=1, max_size=12, unique=True), st.lists(links, max_size=5)
).flatmap(lambda parts: st.permutations([*parts[0], *parts[1]]))


@pytest.mark.slow
@given(statements)
@settings(deadline=None)
def test_decisions_equal_those_of_a_plain_enforcer(lines: list[tuple[str, ...]]) -> None:
    with TemporaryDirectory() as name:
        folder = write_policy(Path(name), *(", ".join(line) for line in lines))
        plain = casbin.Enforcer(str(folder / "model.conf"), str(folder / "roles.csv"))
        # A plain enforcer requires all columns of a rule; here the last may be omitted.
        policy = load(
            write_policy(folder, *(", ".join(line).removesuffix(", any") for line in lines))
        )

    expected, actual = {}, {}
    for role, account, operation, own in product(
        (*ROLES, "stranger"),
        (OURS, OTHER_ACCOUNT, AccountId(USER)),
        ("get_batch", "delete_batch", "get_batches"),
        (True, False),
    ):
        case = (role, account, operation, own)
        allowed, explanation = plain.enforce_ex(
            role, str(account), operation, "own" if own else "other"
        )
        expected[case] = (allowed, tuple(explanation) if explanation else None)
        actual[case] = policy.enforce(role, account, operation, own=own)
    assert actual == expected


@pytest.fixture
def frequent_thread_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("frequent_thread_switches")
async def test_concurrent_threads_get_their_own_decisions(tmp_path: Path) -> None:
    roles = [f"role_{n}" for n in range(200)]
    policy = load(
        write_policy(tmp_path, *(f"p, {role}, *, get_batch, allow" for role in roles[::2]))
    )

    decisions = await asyncio.gather(
        *(asyncio.to_thread(policy.decide, role, OURS, "get_batch") for role in roles)
    )

    assert [decision.allowed for decision in decisions] == [True, False] * 100


def test_revision_identifies_names_and_contents_of_the_files(tmp_path: Path) -> None:
    def revision(folder: str, line: str, file: str = "roles.csv") -> str:
        path = tmp_path / folder
        path.mkdir()
        (path / "model.conf").write_text(MODEL)
        (path / file).write_text(line)
        return load(path).revision

    first = revision("first", "p, clerk, *, *, allow")

    assert revision("same", "p, clerk, *, *, allow") == first
    assert revision("other_line", "p, chief, *, *, allow") != first
    assert revision("other_file", "p, clerk, *, *, allow", "clerks.csv") != first


@pytest.fixture
def fresh_casbin_loggers() -> Iterator[None]:
    """Reset Casbin's loggers, which earlier enforcers have changed."""
    loggers = [logging.getLogger(f"casbin{name}") for name in ("", ".policy", ".enforcer", ".role")]
    before = [(logger, logger.disabled, logger.level) for logger in loggers]
    for logger in loggers:
        logger.disabled = False
        logger.setLevel(logging.NOTSET)
    yield
    for logger, disabled, level in before:
        logger.disabled = disabled
        logger.setLevel(level)


@pytest.mark.usefixtures("fresh_casbin_loggers")
def test_casbin_logs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    policy = load(write_policy(tmp_path, "g, boss, clerk", "p, clerk, *, get_batch, allow"))
    policy.decide("guest", OURS, "get_batch")

    assert not [record for record in caplog.records if record.name.startswith("casbin")]


# Start


async def test_folder_comes_from_the_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_policy(tmp_path, "p, clerk, *, get_batch, allow")

    async with casbin_authorizer(context_of(tmp_path)) as authorizer:
        decision = await authorizer.decide(access("clerk", "get_batch"))

    assert decision.allowed
    assert f"policy {decision.revision} in effect: 1 rules, from {tmp_path}" in caplog.messages


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("policies", r"policies: can't read the policy folder: No such file"),
        ("policies/model.conf", r"model\.conf: No such file"),
        ("policies/roles.csv", r"policies: the policy folder contains no \.csv file"),
    ],
)
async def test_start_fails_without_a_policy(tmp_path: Path, missing: str, message: str) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    write_policy(folder, "p, clerk, *, get_batch, allow")
    (tmp_path / missing).rename(tmp_path / "elsewhere")

    with pytest.raises(InvalidPolicy, match=message):
        async with casbin_authorizer(context_of(folder)):
            pytest.fail("it started")
