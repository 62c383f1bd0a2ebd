"""`batchd dev` as a process, as people start it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import has_exited, until

POLICIES = Path(__file__).parents[2] / "policies"
BATCHD = (sys.executable, "-P", "-m", "batchd.cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dev:
    process: subprocess.Popen[bytes]
    ready_file: Path
    log: Path

    @property
    def output(self) -> str:
        """Its output so far, errors included."""
        return self.log.read_text()

    def until_ready(self) -> dict[str, Any]:
        """Wait for the ready file; return its content."""
        until(lambda: self.ready_file.exists() or self.process.poll() is not None, seconds=90)
        assert self.ready_file.exists(), self.output
        facts: dict[str, Any] = json.loads(self.ready_file.read_text())
        return facts

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def run_dev(
    data_dir: Path,
    *arguments: str,
    port: int = 0,
    python: Path = Path(sys.executable),
    policies: Path | None = POLICIES,
) -> Iterator[Dev]:
    """Start `batchd dev`; whatever happens, it is stopped in the end."""
    data_dir.mkdir(exist_ok=True)
    ready_file, log = data_dir.with_suffix(".json"), data_dir.with_suffix(".log")
    options = {"data-dir": data_dir, "port": port, "ready-file": ready_file}
    if policies is not None:
        options["policies"] = policies
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [str(python), *BATCHD[1:], "dev", *flags, *arguments]
    with (
        log.open("wb") as output,
        # Not the checkout: nothing may depend on where it is started.
        subprocess.Popen(command, stdout=output, stderr=output, cwd=data_dir.parent) as process,
    ):
        try:
            yield Dev(process=process, ready_file=ready_file, log=log)
        finally:
            process.terminate()


def all_pids(facts: dict[str, Any]) -> list[int]:
    pids = facts["pids"]
    return [*pids["api"], *pids["worker"], pids["postgres"], pids["s3"]]


def users_of(folder: Path) -> list[int]:
    """Return the processes that work on this folder, by the command line that started them."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if re.search(re.escape(os.fsencode(folder)) + rb"\b", command):
                pids.append(int(entry.name))
    return [pid for pid in pids if not has_exited(pid)]


def get(url: str, secret: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"Authorization": secret})
    with urllib.request.urlopen(request, timeout=30) as response:
        body: dict[str, Any] = json.load(response)
        return body
