"""docs/glossary.md against the code: each term once, and what it names exists."""

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
def test_the_members_are_listed_in_full(
    term: str, members: type[StrEnum] | frozenset[StrEnum]
) -> None:
    assert set(code_names(meaning_of(term))) == {str(member) for member in members}
