"""Runs PostgreSQL in the given folder until it is killed."""

import asyncio
import sys
from pathlib import Path

from batchd.devstack.postgres import run_postgres


async def main() -> None:
    async with run_postgres(Path(sys.argv[1]), durable=False) as server:
        sys.stdout.write(f"{server.pid}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


asyncio.run(main())
