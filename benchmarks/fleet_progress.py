"""What live progress costs: lines a second with it, without it, and while somebody watches.

The pulse of a chunk tells progress and keeps the lease by one statement: without it there is
neither. Somebody who watches asks for progress and errors twenty times a second.
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

WITHOUT = (str(Path(__file__).parent / "support" / "without_pulse.py"),)
WATCH_S = 0.05


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
                measured: dict[str, list[float]] = {"without": [], "with": [], "watched": []}
                for _ in range(options.rounds):
                    run = partial(by_one_worker, stack, user.secret, operation, count)
                    measured["without"].append(await run(program=WITHOUT))
                    measured["with"].append(await run())
                    async with watching(stack, user):
                        measured["watched"].append(await run())
                print(table.rates(f"{operation}, progress", measured, "lines/s"), flush=True)


@asynccontextmanager
async def watching(stack: Stack, user: User) -> AsyncIterator[None]:
    async def watch(caller: Customer) -> None:
        while True:
            found = await caller.call("GET", "/batches?limit=1")
            for batch in found["batches"]:
                await caller.call("GET", f"/batches/{batch}?expand=progress,errors")
            await asyncio.sleep(WATCH_S)

    async with customer(stack.api_url, user.secret) as caller:
        task = asyncio.create_task(watch(caller))
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
