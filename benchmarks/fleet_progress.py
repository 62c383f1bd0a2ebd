"""The cost of live progress: lines/s with it, without it, and while a client polls for it.

The heartbeat of a chunk reports progress and extends the lease with one statement: without it there
is neither. The client requests progress and errors twenty times a second.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet_throughput import by_one_worker
from support import table
from support.customer import Customer, customer
from support.http_operation import NAME, run_upstream
from support.stack import Stack, User, run_stack

WITHOUT_HEARTBEAT = (str(Path(__file__).parent / "support" / "without_heartbeat.py"),)
POLL_INTERVAL_S = 0.05


async def main(options: argparse.Namespace) -> None:
    print(f"{table.machine()}\n")
    with TemporaryDirectory() as name:
        async with (
            run_upstream(Path(name)) as upstream,
            run_stack(operations=upstream.file) as stack,
        ):
            await stack.start("api")
            await stack.until_ready()
            user = await stack.user()
            for operation, count in (("no_op", options.lines), (NAME, options.calls)):
                measured: dict[str, list[float]] = {"without": [], "with": [], "polled": []}
                for _ in range(options.rounds):
                    run = partial(by_one_worker, stack, user.secret, operation, count)
                    measured["without"].append(await run(program=WITHOUT_HEARTBEAT))
                    measured["with"].append(await run())
                    async with polling(stack, user):
                        measured["polled"].append(await run())
                print(table.rates(f"{operation}, progress", measured, "lines/s"), flush=True)


@asynccontextmanager
async def polling(stack: Stack, user: User) -> AsyncIterator[None]:
    async def poll(client: Customer) -> None:
        while True:
            listed = await client.call("GET", "/batches?limit=1")
            for batch in listed["batches"]:
                await client.call("GET", f"/batches/{batch}?expand=progress,errors")
            await asyncio.sleep(POLL_INTERVAL_S)

    async with customer(stack.api_url, user.secret) as client:
        task = asyncio.create_task(poll(client))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args()))
