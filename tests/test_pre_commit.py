"""The hooks of .pre-commit-config.yaml run what make runs, and nothing else."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = ("lint", "types", "imports")


def commands(target: str) -> list[str]:
    """Return what a target of the Makefile runs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(rf"^{target}:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
    return [line.strip() for line in recipe.splitlines()]


def test_hooks_are_what_make_runs() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"^ +entry: (.+)$", config, re.MULTILINE)
    assert entries == [command for target in TARGETS for command in commands(target)]
