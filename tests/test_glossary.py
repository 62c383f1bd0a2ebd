"""docs/glossary.md against the code: each term once, what it names exists, no synonyms."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest

from batchd.domain.batches import END_STATUSES, Status
from batchd.domain.jobs import Lane, Stage

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
PACKAGE = ROOT / "app" / "batchd"
ROW = re.compile(r"^\| \*\*(?P<term>[^*]+)\*\* \| (?P<meaning>.+) \| (?P<code>.+) \|$")


BANNED_WORDS = """
answer answered answering asked asking begun enough few finer found gone heard held kept known left
made mine most note oddity one place places reached seen shown some taken theirs there told tries
trouble troubles unheard wanted whole wrong
ask_at asked_at breath climbs deaf expecting following forget_some gate give_back giving_up hopeless
lost_work max_endings meter nobodys not_heard overload patience pulse remembered removing salvage
settle shares shut_out sit_out sweeping takers tallies tally until_possible
"""
"""Names that say where a thing came from, and those that a term of the glossary has replaced."""
BANNED = frozenset(BANNED_WORDS.split())
CONTRACT_ATTRIBUTES = {(PACKAGE / "operations" / "responses.py", "found")}
"""Attributes of responses, whose names the published API fixes."""
SOURCES = [path for name in ("app", "tests") for path in (ROOT / name).rglob("*.py")]


def rows() -> list[re.Match[str]]:
    lines = GLOSSARY.read_text(encoding="utf-8").splitlines()
    return [row for line in lines if (row := ROW.match(line)) is not None]


def code_names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def meaning_of(term: str) -> str:
    (meaning,) = (row["meaning"] for row in rows() if row["term"] == term)
    return str(meaning)


def names_in(path: Path) -> Iterator[str]:
    """Walk the module's own name and every class, function and constant at its top level."""
    yield path.parent.name if path.stem == "__init__" else path.stem
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.AsyncFunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def bound_names(path: Path) -> Iterator[tuple[int, str]]:
    """Walk every name that the module gives to something, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield node.lineno, name
            case ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def test_each_term_has_a_row_of_its_own() -> None:
    terms = Counter(re.findall(r"\*\*([^*]+)\*\*", GLOSSARY.read_text(encoding="utf-8")))
    assert [term for term, count in terms.items() if count > 1] == []
    assert len(rows()) > 60


def test_everything_that_is_named_is_in_the_package() -> None:
    existing = {name for path in PACKAGE.rglob("*.py") for name in names_in(path)}
    named = {name for row in rows() for name in code_names(row["code"])}
    assert named - existing == set()


@pytest.mark.parametrize(
    ("term", "members"),
    [("status", Status), ("end status", END_STATUSES), ("lane", Lane), ("stage", Stage)],
    ids=["status", "end status", "lane", "stage"],
)
def test_members_are_listed_in_full(term: str, members: type[StrEnum] | frozenset[StrEnum]) -> None:
    assert set(code_names(meaning_of(term))) == {str(member) for member in members}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_is_a_banned_word(path: Path) -> None:
    banned = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for line, name in bound_names(path)
        if name.strip("_").lower() in BANNED and (path, name) not in CONTRACT_ATTRIBUTES
    ]
    assert banned == []
