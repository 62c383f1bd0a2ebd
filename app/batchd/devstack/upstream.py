"""The example's upstream, a child like the others: somebody else's API, to be put in batches."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from batchd.devstack.guard import Guard
from batchd.devstack.ports import HOST, hold_port
from batchd.devstack.processes import run_child
from batchd.devstack.readiness import until_ready
from batchd.shipped import shipped_folder

URL_VARIABLE = "EXAMPLE_UPSTREAM_URL"
"""What the example's operations.toml refers to."""
READY_S = 30.0


def example_operations() -> Path:
    """Return the example's operations.toml, which needs the upstream to run."""
    return shipped_folder("examples") / "operations.toml"


@asynccontextmanager
async def run_upstream(guard: Guard, log: Path, env: Mapping[str, str]) -> AsyncIterator[str]:
    """Serve examples/upstream.py on a free port; give its URL. Raises StackFailed."""
    with hold_port(0) as port:
        program = shipped_folder("examples") / "upstream.py"
        command: list[str | Path] = [sys.executable, "-P", program, "--port", str(port)]
        url = f"http://{HOST}:{port}"
        async with (
            run_child("upstream", command, log=log, env=env) as child,
            guard.watching(child.name, child.process.wait, log),
        ):
            await until_ready("The example's upstream", url, "/count", within_s=READY_S)
            yield url
