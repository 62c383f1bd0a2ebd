"""docs/security.md names a test for each promise of SECURITY.md, and tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)`")


def first_cells(page: str, heading: str) -> list[str]:
    """Return the first cells of the table under a heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [row.strip("| ").partition(" | ")[0] for row in rows[2:]]


def test_each_promise_has_a_test() -> None:
    promises = first_cells("SECURITY.md", "What is promised")
    assert len(promises) > 5
    assert set(promises) <= set(first_cells("docs/security.md", "Promises and their tests"))


def test_each_test_that_is_named_exists() -> None:
    tests = _TEST.findall((ROOT / "docs/security.md").read_text(encoding="utf-8"))
    assert len(tests) > 20
    assert [test for test in tests if not (ROOT / test).exists()] == []
