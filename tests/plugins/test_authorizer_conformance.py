"""What every authorizer must comply with, tested through the entry points of all of them."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from batchd.domain.ids import UserId
from batchd.domain.permission import OTHER_USER, Access, Authorizer, AuthorizerFactory, Decision
from batchd.domain.ports import StartupError
from tests.support.policies import (
    COLLEAGUE,
    OTHER_ACCOUNT,
    OURS,
    USER,
    access,
    context_of,
    write_policy,
)
from tests.support.polling import eventually


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """An authorizer, and how to write, change and corrupt the same policy in its language."""

    name: str
    write: Callable[[Path], object]
    deny_boss: Callable[[Path], object]
    corruptions: tuple[Callable[[Path], object], ...]


def write_casbin(folder: Path) -> None:
    write_policy(
        folder,
        "p, boss, *, *, allow",
        "p, reader, *, get_batch, allow",
        "p, reader, *, get_batches, allow",
        "g, clerk, reader",
        "p, clerk, *, create_upload_url, allow",
        "p, clerk, *, delete_batch, allow, own",
        f"p, clerk, {OTHER_ACCOUNT}, get_batches, deny",
        "p, auditor, *, *, allow",
        "p, auditor, *, *, deny, own",
        f"p, partner, {OTHER_ACCOUNT}, get_batch, allow",
    )


CEDAR = """
@id("boss may do everything")
permit(principal in Role::"boss", action, resource);
permit(principal in Role::"reader", action == Action::"get_batch", resource);
permit(principal in Role::"reader", action == Action::"get_batches", resource);
permit(principal in Role::"clerk", action == Action::"create_upload_url", resource);
// Its own batches only.
permit(principal in Role::"clerk", action == Action::"delete_batch", resource)
    when { resource.owner == principal };
forbid(principal in Role::"clerk", action == Action::"get_batches", resource)
    when { resource.account == Account::"%s" };
permit(principal in Role::"auditor", action, resource);
forbid(principal in Role::"auditor", action, resource) when { resource.owner == principal };
permit(principal in Role::"partner", action == Action::"get_batch", resource)
    when { resource.account == Account::"%s" };
"""


def write_cedar(folder: Path) -> None:
    (folder / "roles.cedar").write_text(CEDAR % (OTHER_ACCOUNT, OTHER_ACCOUNT))
    (folder / "roles.json").write_text('{"clerk": ["reader"]}')


KINDS = {
    "casbin": Kind(
        name="casbin",
        write=write_casbin,
        deny_boss=lambda folder: (folder / "no_boss.csv").write_text("p, boss, *, *, deny\n"),
        corruptions=(
            lambda folder: (folder / "roles.csv").write_text("p, boss, *, *, permit\n"),
            lambda folder: (folder / "roles.csv").write_text("p, boss, *, get_bach, allow\n"),
            lambda folder: (folder / "roles.csv").write_text(""),
            lambda folder: (folder / "more.csv").write_text("g, a, b\ng, b, a\n"),
            shutil.rmtree,
        ),
    ),
    "cedar": Kind(
        name="cedar",
        write=write_cedar,
        deny_boss=lambda folder: (folder / "no_boss.cedar").write_text(
            'forbid(principal in Role::"boss", action, resource);'
        ),
        corruptions=(
            lambda folder: (folder / "roles.cedar").write_text("permit(principal;"),
            lambda folder: (folder / "roles.cedar").write_text(
                'permit(principal, action == Action::"get_bach", resource);'
            ),
            lambda folder: (folder / "roles.cedar").write_text(
                "permit(principal, action, resource) when { resource.ownr == principal };"
            ),
            lambda folder: (folder / "roles.cedar").write_text(
                'permit(principal == User::"alice", action, resource);'
            ),
            lambda folder: (folder / "roles.cedar").write_text("// nothing\n"),
            lambda folder: (folder / "roles.json").write_text('{"clerk": "reader"}'),
            lambda folder: (folder / "roles.json").write_text('{"a": ["b"], "b": ["a"]}'),
            shutil.rmtree,
        ),
    ),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def folder(kind: Kind, tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    kind.write(folder)
    return folder


def open_authorizer(kind: Kind, folder: Path) -> AbstractAsyncContextManager[Authorizer]:
    (entry_point,) = entry_points(group="batchd.authorizers", name=kind.name)
    factory: AuthorizerFactory = entry_point.load()
    return factory(context_of(folder, "create_upload_url", "create_batch"))


@pytest.fixture
async def authorizer(kind: Kind, folder: Path) -> AsyncIterator[Authorizer]:
    async with open_authorizer(kind, folder) as authorizer:
        yield authorizer


def test_every_authorizer_is_tested() -> None:
    assert {point.name for point in entry_points(group="batchd.authorizers")} == set(KINDS)


NOBODY: UserId | None = None
CASES = [
    (access("boss", "delete_batch", owner=COLLEAGUE), True),
    (access("boss", "an_operation_of_a_plugin"), True),
    (access("reader", "get_batch", owner=COLLEAGUE), True),
    (access("reader", "delete_batch", owner=USER), False),
    (access("clerk", "get_batch", owner=COLLEAGUE), True),
    (access("clerk", "create_upload_url", owner=NOBODY), True),
    (access("clerk", "create_batch", owner=NOBODY), False),
    (access("clerk", "delete_batch", owner=USER), True),
    (access("clerk", "delete_batch", owner=NOBODY), True),
    (access("clerk", "delete_batch", owner=COLLEAGUE), False),
    (access("clerk", "delete_batch", owner=OTHER_USER), False),
    (access("clerk", "get_batches", OURS, OTHER_USER), True),
    (access("clerk", "get_batches", OTHER_ACCOUNT, OTHER_USER), False),
    (access("clerk", "get_batch", OTHER_ACCOUNT, USER), True),
    (access("auditor", "get_batch", owner=COLLEAGUE), True),
    (access("auditor", "get_batch", owner=USER), False),
    (access("auditor", "create_batch", owner=NOBODY), False),
    (access("partner", "get_batch", OTHER_ACCOUNT, COLLEAGUE), True),
    (access("partner", "get_batch", OURS, COLLEAGUE), False),
    (access("stranger", "get_batch", owner=USER), False),
    (access("", "get_batch", owner=USER), False),
    (access('x" in Role::"boss', "get_batch", owner=USER), False),
]


@pytest.mark.parametrize(("requested", "allowed"), CASES)
async def test_decision(authorizer: Authorizer, requested: Access, allowed: bool) -> None:
    decision = await authorizer.decide(requested)

    assert type(decision) is Decision
    assert decision.allowed is allowed
    assert decision.revision == authorizer.revision
    assert decision.rule or not allowed


async def test_decision_names_the_rule(authorizer: Authorizer) -> None:
    allowed = await authorizer.decide(access("boss", "get_batch"))
    denied = await authorizer.decide(access("clerk", "get_batches", OTHER_ACCOUNT, USER))

    assert allowed.rule is not None
    assert allowed.rule.startswith("roles.c")
    assert denied.rule is not None
    assert denied.rule != allowed.rule


async def test_change_of_the_files_changes_the_revision(
    kind: Kind, authorizer: Authorizer, folder: Path
) -> None:
    before = authorizer.revision
    assert (await authorizer.decide(access("boss", "get_batch"))).allowed

    kind.deny_boss(folder)

    async def revision() -> str | None:
        return authorizer.revision

    await eventually(revision, before.__ne__)
    decision = await authorizer.decide(access("boss", "get_batch"))
    assert not decision.allowed
    assert decision.revision == authorizer.revision != before
    assert authorizer.current


INVALID = [(name, index) for name, kind in KINDS.items() for index in range(len(kind.corruptions))]


@pytest.mark.parametrize(("kind", "index"), INVALID, indirect=["kind"])
async def test_invalid_policy_takes_no_effect_and_prevents_a_start(
    kind: Kind, folder: Path, index: int
) -> None:
    corrupt = kind.corruptions[index]
    async with open_authorizer(kind, folder) as authorizer:
        before = authorizer.revision
        corrupt(folder)

        async def current() -> bool:
            return authorizer.current

        await eventually(current, lambda value: not value)
        assert authorizer.revision == before
        assert (await authorizer.decide(access("boss", "get_batch"))).allowed
    with pytest.raises(StartupError, match=str(folder)):
        async with open_authorizer(kind, folder):
            pytest.fail("it started")


async def test_roles_are_those_with_rules_for_the_account(
    authorizer: Authorizer,
) -> None:
    ours = {role.role: role for role in await authorizer.find_roles(OURS)}
    other_roles = {role.role for role in await authorizer.find_roles(OTHER_ACCOUNT)}

    assert list(ours) == ["auditor", "boss", "clerk", "reader"]
    assert other_roles == {*ours, "partner"}
    assert ours["clerk"].inherits == ("reader",)
    assert await authorizer.find_roles(OURS, "partner") == []
    assert [role.role for role in await authorizer.find_roles(OURS, "clerk")] == ["clerk"]
    clerk_own = [
        (statement.effect, statement.actions)
        for statement in ours["clerk"].statements
        if statement.scope == "own"
    ]
    assert clerk_own == [("allow", ("delete_batch",))]
    auditor = {(statement.effect, statement.scope) for statement in ours["auditor"].statements}
    assert ("deny", "own") in auditor
    accounts = {statement.account for role in ours.values() for statement in role.statements}
    assert str(OTHER_ACCOUNT) not in accounts
