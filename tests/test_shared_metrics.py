"""Metrics of several processes in one folder: each answers for all that live, and for no others."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.command import batchd

SAYS = (
    "from batchd.observability import metrics; "
    "metrics.POLICY_IN_FORCE.set({}); metrics.LINES.labels('x').inc()"
)
SHOWS = "; print(metrics.exposition().decode())"


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}


def run(program: str, env: Mapping[str, str]) -> str:
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def test_the_dead_say_nothing_of_the_policy_in_force(env: Mapping[str, str]) -> None:
    run(SAYS.format(0), env)
    shown = run(SAYS.format(1) + SHOWS, env)

    assert re.search(r"^batchd_policy_in_force 1\.0$", shown, re.MULTILINE), shown
    # What they did has been done all the same.
    assert re.search(r'^batchd_lines_total{outcome="x"} 2\.0$', shown, re.MULTILINE), shown


def test_one_policy_that_is_not_in_force_is_told_by_all(env: Mapping[str, str]) -> None:
    command = [sys.executable, "-P", "-c", SAYS.format(0) + "; print(flush=True); input()"]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        shown = run(SAYS.format(1) + SHOWS, env)
        other.communicate(b"\n")

    assert re.search(r"^batchd_policy_in_force 0\.0$", shown, re.MULTILINE), shown


async def test_a_command_that_comes_and_goes_measures_nothing(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    ended = await batchd("users", "--help", env=env)

    assert ended.code == 0
    assert list(tmp_path.iterdir()) == []
