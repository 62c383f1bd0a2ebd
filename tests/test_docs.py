"""What the documents say is held against the code."""

from pathlib import Path

from batchd.operations.table import OPERATIONS
from batchd.settings import Settings

ROOT = Path(__file__).parents[1]


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    has_value = field.default is not None and field.default_factory is None
    default = f"`{field.default}`" if has_value else ""
    shown = "required" if field.is_required() else default
    return f"| `BATCHD_{name.upper()}` | {shown} | {field.description} |"


def test_readme_lists_every_setting_with_its_default_and_meaning() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    listed = [line for line in readme if line.startswith("| `BATCHD_")]
    assert listed == [_row(name) for name in Settings.model_fields]


def test_changelog_names_every_operation() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [e.name for e in OPERATIONS if f"`{e.name}`" not in changelog] == []
