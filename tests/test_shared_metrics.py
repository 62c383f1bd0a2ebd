"""Metrics of several processes in one folder: each exposes those of all live processes."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.command import batchd

pytestmark = pytest.mark.slow

SET_METRICS = (
    "from batchd.observability import metrics; "
    "metrics.POLICY_IN_FORCE.set({}); metrics.LINES.labels('x').inc()"
)
PRINT_METRICS = "; print(metrics.exposition().decode())"


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}


def run(program: str, env: Mapping[str, str]) -> str:
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def test_gauges_of_dead_processes_are_ignored(env: Mapping[str, str]) -> None:
    run(SET_METRICS.format(0), env)
    printed = run(SET_METRICS.format(1) + PRINT_METRICS, env)

    assert re.search(r"^batchd_policy_in_force 1\.0$", printed, re.MULTILINE), printed
    # Their counters are kept.
    assert re.search(r'^batchd_lines_total{outcome="x"} 2\.0$', printed, re.MULTILINE), printed


def test_invalid_policy_in_one_process_is_reported_by_all(env: Mapping[str, str]) -> None:
    command = [sys.executable, "-P", "-c", SET_METRICS.format(0) + "; print(flush=True); input()"]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        printed = run(SET_METRICS.format(1) + PRINT_METRICS, env)
        other.communicate(b"\n")

    assert re.search(r"^batchd_policy_in_force 0\.0$", printed, re.MULTILINE), printed


async def test_short_lived_command_writes_no_metrics(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    result = await batchd("users", "--help", env=env)

    assert result.code == 0
    assert list(tmp_path.iterdir()) == []
