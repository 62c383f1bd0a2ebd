"""What the documents say is held against the code."""

from pathlib import Path

import pytest

from batchd.configuration import EnvironmentSettings
from batchd.operations.table import OPERATIONS
from batchd.plugins.http_operations.settings import HttpOperationsSettings
from batchd.plugins.s3.settings import S3Settings
from batchd.policies.settings import PolicySettings
from batchd.settings import Settings

ROOT = Path(__file__).parents[1]
SETTINGS = (Settings, S3Settings, PolicySettings, HttpOperationsSettings)


def _row(cls: type[EnvironmentSettings], name: str) -> str:
    field = cls.model_fields[name]
    has_value = field.default is not None and field.default_factory is None
    default = f"`{field.default}`" if has_value else ""
    default_text = "required" if field.is_required() else default
    return f"| `{cls.variable(name)}` | {default_text} | {field.description} |"


@pytest.mark.parametrize("cls", SETTINGS)
def test_readme_lists_every_setting_with_its_default_and_meaning(
    cls: type[EnvironmentSettings],
) -> None:
    tables = (ROOT / "README.md").read_text(encoding="utf-8").split("\n\n")
    rows = [_row(cls, name) for name in cls.model_fields]
    (table,) = (table for table in tables if rows[0] in table)
    assert [line for line in table.splitlines() if line.startswith("| `BATCHD_")] == rows


def test_readme_lists_no_other_setting() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    listed = [line for line in readme if line.startswith("| `BATCHD_")]
    assert len(listed) == sum(len(cls.model_fields) for cls in SETTINGS)


def test_no_settings_are_left_out() -> None:
    app = ROOT / "app"
    sources = {path: path.read_text(encoding="utf-8") for path in app.rglob("*.py")}
    modules = {
        ".".join(path.relative_to(app).with_suffix("").parts)
        for path, source in sources.items()
        if "(EnvironmentSettings):" in source
    }
    assert modules == {cls.__module__ for cls in SETTINGS}


def test_changelog_names_every_operation() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [e.name for e in OPERATIONS if f"`{e.name}`" not in changelog] == []
