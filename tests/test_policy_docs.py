"""The examples of docs/policies.md print what the page shows."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.policies import SHIPPED
from tests.support.shell import run

PAGE = Path(__file__).parents[1] / "docs" / "policies.md"
_BLOCK = re.compile(r"^```(csv|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    return _BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def write(folder: Path, text: str) -> None:
    """Write the file that the first line names."""
    file = folder / text.splitlines()[0].removeprefix("# ")
    if not file.parent.exists():
        shutil.copytree(SHIPPED, file.parent)
    file.write_text(text, encoding="utf-8")


def session(text: str) -> list[tuple[str, str]]:
    """Return each command, and what the page shows of it."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_every_example_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for kind, text in blocks():
        if kind == "csv":
            write(tmp_path, text)
            continue
        for command, expected in session(text):
            program, *arguments = shlex.split(command)
            assert program == "batchd"
            printed = run(*arguments, settings={"BATCHD_POLICIES": "policies"})
            code = f"[exit code {printed.code}]\n" if printed.code else ""
            assert printed.output + code == expected, command
            ran += 1
    assert ran >= 9


@pytest.mark.slow
def test_review_in_ci_runs(tmp_path: Path) -> None:
    (script,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    bin_folder = Path(sys.executable).parent
    env = {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "BASE": "main",
        "HOME": str(tmp_path),
    }

    def shell(command: str) -> str:
        return subprocess.run(
            ["bash", "-euc", command],
            cwd=tmp_path,
            env=env,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    shutil.copytree(SHIPPED, tmp_path / "policies")
    commit = "git add policies && git -c user.name=n -c user.email=n@invalid commit -qm"
    shell(f"git init -qb main && {commit} before && git checkout -qb change")
    with (tmp_path / "policies" / "roles.csv").open("a") as file:
        file.write("p, operator, *, create_batch, allow\n")
    (tmp_path / "policies" / "tests.csv").write_text("operator, *, create_batch, allow\n")
    shell(f"{commit} after")

    printed = shell(script)

    assert "1 of 1 cases as expected" in printed
    assert "gains  operator  *        create_batch  any" in printed
    assert printed.endswith("a human looks at it.\n")


@pytest.mark.parametrize("tool", ["check", "explain", "diff", "test", "statement"])
def test_page_tells_of_every_tool(tool: str) -> None:
    assert f"batchd policy {tool}" in PAGE.read_text(encoding="utf-8")
