"""What plugin packages declare by their entry points."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchd.plugin_loader import UnknownPlugin, declared_operations, installed, load

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that installs a package with these entry points."""

    def install(entry_points: str) -> None:
        metadata = tmp_path / "example-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        (tmp_path / "example_plugin.py").write_text(
            "def names(environment):\n"
            "    return frozenset({environment['NAME']}) if 'NAME' in environment else None\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    sys.modules.pop("example_plugin", None)


def test_no_operation_is_declared_where_no_source_is_configured() -> None:
    assert declared_operations({}) is None


def test_source_declares_its_operations(install: Install) -> None:
    install(
        "[batchd.operation_sources]\nexample = example_plugin:source\n"
        "[batchd.operation_names]\nexample = example_plugin:names\n"
    )
    assert declared_operations({"NAME": "ship"}) == frozenset({"ship"})
    assert declared_operations({}) is None


def test_source_that_declares_no_names_may_have_any_operation(install: Install) -> None:
    install("[batchd.operation_sources]\nexample = example_plugin:source\n")
    assert declared_operations({}) == frozenset()


def test_plugin_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(UnknownPlugin, match=r"no plugin 'other' in batchd\.storages; .*: s3$"):
        load("batchd.storages", "other")


def test_plugin_whose_package_is_missing_is_refused_with_its_extra(install: Install) -> None:
    install("[batchd.storages]\nexample = no_such_package:storage\n")
    assert "example" in {plugin.name for plugin in installed("batchd.storages")}
    with pytest.raises(UnknownPlugin, match=r"'no_such_package'.*install batchd\[example\]"):
        load("batchd.storages", "example")
