"""Links in the documentation lead somewhere: to a file, and to a heading that it has."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def pages() -> list[Path]:
    """Return the pages of the project, not those in hidden folders such as .venv."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."]
    return sorted([*ROOT.glob("*.md"), *(page for each in folders for page in each.rglob("*.md"))])


def prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the fragments of the page's headings, as GitHub makes them."""
    headings = (
        re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(prose(page))
    )
    return {heading.strip().replace(" ", "-") for heading in headings}


def is_broken(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):  # another site
        return False
    path, _, fragment = link.partition("#")
    target = (page.parent / path) if path else page
    if not target.exists():
        return True
    return bool(fragment) and fragment not in anchors(target)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in _LINK.findall(prose(page)) if is_broken(page, link)] == []


@pytest.mark.parametrize("link", ["no-such-page.md", "README.md#no-such-heading", "#nor-this-one"])
def test_broken_link_is_noticed(link: str) -> None:
    assert is_broken(ROOT / "README.md", link)


def test_index_lists_every_decision() -> None:
    folder = ROOT / "docs" / "decisions"
    records = {page.name for page in folder.glob("*.md")} - {"README.md"}
    assert set(_LINK.findall(prose(folder / "README.md"))) == records
