"""The example's upstream, a child process that stands for a company's own HTTP API."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from batchd.devstack.guard import ShutdownGuard
from batchd.devstack.ports import HOST, reserve_port
from batchd.devstack.processes import run_child
from batchd.devstack.readiness import wait_until_ready
from batchd.shipped import shipped_folder

URL_VARIABLE = "EXAMPLE_UPSTREAM_URL"
"""The variable that the example's operations.toml refers to."""
READY_TIMEOUT_S = 30.0


def example_operations() -> Path:
    """Return the example's operations.toml, which requires its upstream to run."""
    return shipped_folder("examples") / "operations.toml"


@asynccontextmanager
async def run_upstream(
    guard: ShutdownGuard, log: Path, env: Mapping[str, str]
) -> AsyncIterator[str]:
    """Serve examples/upstream.py on a free port and yield its URL. Raises StackFailed."""
    with reserve_port(0) as port:
        program = shipped_folder("examples") / "upstream.py"
        command: list[str | Path] = [sys.executable, "-P", program, "--port", str(port)]
        url = f"http://{HOST}:{port}"
        async with (
            run_child("upstream", command, log=log, env=env) as child,
            guard.watch_process(child.name, child.process.wait, log),
        ):
            await wait_until_ready(
                "The example's upstream", url, "/count", timeout_s=READY_TIMEOUT_S
            )
            yield url
