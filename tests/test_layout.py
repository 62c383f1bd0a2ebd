"""setup.cfg is consistent with the folders, the code and the locks."""

import re
from configparser import ConfigParser
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PLUGIN_GROUPS = (
    "batchd.authorizers",
    "batchd.operation_sources",
    "batchd.operations",
    "batchd.storages",
)

OWN_LOCKS = {"bench", "fuzz"}
"""Extras that are installed into environments of their own."""


def setup_cfg() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(value: str) -> list[str]:
    return [line for line in value.splitlines() if line and not line.startswith("#")]


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in ROOT.glob("app/**/*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").exists()} == set()


@pytest.mark.parametrize(
    "entry_point",
    [
        *entry_points(group="console_scripts", name="batchd"),
        *(point for group in PLUGIN_GROUPS for point in entry_points(group=group)),
    ],
    ids=lambda point: f"{point.group}:{point.name}",
)
def test_every_entry_point_leads_somewhere(entry_point: EntryPoint) -> None:
    assert callable(entry_point.load())


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("run.lock", lines(setup_cfg()["options"]["install_requires"])),
        *(
            (f"{extra if extra in OWN_LOCKS else 'dev'}.lock", lines(listed))
            for extra, listed in setup_cfg()["options.extras_require"].items()
        ),
        ("build.lock", lines((ROOT / "requirements/build.in").read_text(encoding="utf-8"))),
    ],
    ids=["run", *setup_cfg()["options.extras_require"], "build"],
)
def test_locks_fit_setup_cfg(lock: str, requirements: list[str]) -> None:
    pins = locked(lock)
    for requirement in map(Requirement, requirements):
        assert pins[requirement.name] in requirement.specifier, "run `make lock`"


def test_tests_run_on_the_versions_of_the_image() -> None:
    assert locked("run.lock").items() <= locked("dev.lock").items()


@pytest.mark.parametrize("lock", ["build.lock", "run.lock", "dev.lock", "bench.lock", "fuzz.lock"])
def test_locks_name_no_address(lock: str) -> None:
    assert "://" not in (ROOT / "requirements" / lock).read_text(encoding="utf-8")
