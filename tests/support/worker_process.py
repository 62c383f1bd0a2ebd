"""A worker as a process of its own, which can be killed."""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


@asynccontextmanager
async def worker_process(env: Mapping[str, str]) -> AsyncIterator[Process]:
    """Start `batchd worker`; whatever happens, it has ended afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "batchd.cli", "worker", env=env
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
