"""docs/architecture.md names modules and folders that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PATH = re.compile(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`")


def is_missing(path: str) -> bool:
    return not (ROOT / "app" / "batchd" / path).exists() and not (ROOT / path).exists()


def test_every_module_that_is_named_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = _PATH.findall(page)
    assert len(paths) > 20
    assert [path for path in paths if is_missing(path)] == []


def test_module_that_is_gone_is_noticed() -> None:
    assert is_missing("pipeline/no_such_module.py")
