"""A worker as a process of its own, which can be killed."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from batchd.settings import Settings, to_environment


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables with which a process has the same settings."""
    values = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in settings
        if value is not None
    }
    return {**os.environ, **to_environment(values)}


@asynccontextmanager
async def worker_process(settings: Settings) -> AsyncIterator[Process]:
    """Start `batchd worker`; whatever happens, it has ended afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "batchd.cli", "worker", env=environment_of(settings)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
