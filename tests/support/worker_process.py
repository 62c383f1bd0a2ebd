"""A worker in a separate process, which a test can kill."""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


@asynccontextmanager
async def worker_process(env: Mapping[str, str]) -> AsyncIterator[Process]:
    """Run `batchd worker` while the block runs; it is killed if it has not exited by then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "batchd.cli", "worker", env=env
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
