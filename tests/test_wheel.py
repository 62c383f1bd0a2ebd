"""The built wheel, installed without the checkout: it brings all that a first run needs."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.dev_process import all_pids, run_dev
from tests.support.waiting import has_exited, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ("app", "examples", "migrations", "policies")
FILES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it into an environment of its own; return its interpreter.

    The dependencies are those of the tests' environment, without its editable installation.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    offline = ("--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "wheel", *offline, "--wheel-dir", folder, source)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env")
    python = folder / "env" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    # A .pth file inside a folder that another .pth file names is not read.
    (site_packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    # dbmate is looked for beside the interpreter.
    shutil.copy(Path(sys.executable).parent / "dbmate", python.parent)
    return python


def run(*command: str | Path) -> str:
    process = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=os.sep
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("name", ["examples", "migrations", "policies"])
def test_wheel_ships_every_file(installed: Path, name: str) -> None:
    code = f"from batchd.shipped import shipped_folder; print(shipped_folder({name!r}))"
    folder = Path(run(installed, "-P", "-c", code).strip())
    assert installed.parents[1] in folder.parents
    shipped = {path.name for path in folder.iterdir()}
    listed = {path.name for path in (ROOT / name).iterdir() if path.is_file()}
    assert listed - {"README.md"} <= shipped


def test_dev_runs_from_the_wheel_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """Both samples run: policies, migrations and examples come from the installation."""
    with run_dev(tmp_path / "data", python=installed, policies=None) as dev:
        facts = dev.until_ready()
        assert str(installed.parents[1]) in facts["policies_dir"]
        assert dev.output.count("as get_batch shows it") == 2
        assert dev.stop() == 0
        until(lambda: all(map(has_exited, all_pids(facts))))
