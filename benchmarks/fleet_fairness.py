"""Fairness: fifty accounts share one worker, and small batches run beside a giant one.

Prints Jain's index of the lines processed for each account while all have work waiting (1 means
equal shares), and the duration of a batch of ten lines while millions of lines of another account
wait.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import asyncpg
from support.customer import Customer, customer
from support.http_operation import NAME, lines, run_upstream
from support.stack import Stack, run_stack

_DONE = """
SELECT b.account, sum(c.succeeded)::int AS done, bool_or(c.part_key IS NULL) AS waiting
FROM batches b JOIN chunks c USING (batch) GROUP BY b.account
"""
_OPEN = "SELECT count(*) FROM batches WHERE status <> 'completed'"


async def main(options: argparse.Namespace) -> None:
    with TemporaryDirectory() as name:
        async with (
            run_upstream(Path(name)) as upstream,
            run_stack(operations=upstream.file, chunk_lines=options.chunk_lines) as stack,
        ):
            await stack.start("api")
            await stack.until_ready()
            await measure_shares(stack, options)
            await measure_small_batches(stack, options)


async def measure_shares(stack: Stack, options: argparse.Namespace) -> None:
    """Measure the share of each account while accounts with different loads compete."""
    uploads = []
    for number in range(options.accounts):
        user = await stack.user()
        size = options.lines * (1 + number % 5)
        uploads.append(create_batch(stack, user.secret, size))
    await asyncio.gather(*uploads)
    worker = await stack.start("worker")
    connection = await asyncpg.connect(stack.env["BATCHD_DATABASE_URL"])
    try:
        before: dict[str, int] = {}
        processed: Sequence[int] = ()
        while await connection.fetchval(_OPEN):
            await asyncio.sleep(0.5)
            current = await processed_lines(connection)
            if len(current) == options.accounts:
                before = before or current
                processed = [current[account] - before[account] for account in current]
            elif before:
                break
    finally:
        await connection.close()
    assert sum(processed), "too few lines: some accounts finished before all were validated"
    print(f"accounts                              {options.accounts}, with 1 to 5 times the load")
    print(f"lines run while all had work waiting  {sum(processed)}")
    print(f"Jain's index                          {jain(processed):.3f}")
    worker.terminate()
    await worker.wait()


async def processed_lines(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """Return the number of processed lines of each account that has lines waiting."""
    rows = await connection.fetch(_DONE)
    return {str(row["account"]): row["done"] for row in rows if row["waiting"]}


async def create_batch(stack: Stack, secret: str, size: int) -> None:
    async with customer(stack.api_url, secret) as client:
        await client.create(lines(size), "no_op")


def jain(values: Sequence[int]) -> float:
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


async def measure_small_batches(stack: Stack, options: argparse.Namespace) -> None:
    """Run batches of ten lines while another account's giant batch is validated and processed."""
    giant, small = await stack.user(), await stack.user()
    await stack.start("worker")
    async with (
        customer(stack.api_url, giant.secret) as owner,
        customer(stack.api_url, small.secret) as other,
    ):
        for operation in ("no_op", NAME):
            batch = await owner.create(lines(options.giant), operation)
            times: dict[str, list[float]] = {}
            for _ in range(options.small):
                status = (await owner.call("GET", f"/batches/{batch}"))["status"]
                times.setdefault(status, []).append(await batch_duration(other, operation))
            await owner.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
            await owner.end(batch)
            for status, durations in times.items():
                print(
                    f"10 lines of {operation} while {options.giant:,} are {status}: "
                    f"median {median(durations):.2f} s, longest {max(durations):.2f} s, "
                    f"{len(durations)} times"
                )


async def batch_duration(client: Customer, operation: str) -> float:
    start = time.monotonic()
    status, _ = await client.end(await client.create(lines(10), operation), poll_s=0.01)
    assert status == "completed", status
    return time.monotonic() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--lines", type=int, default=20_000, help="of the least loaded account")
    parser.add_argument("--chunk-lines", type=int, default=100)
    parser.add_argument("--giant", type=int, default=2_000_000)
    parser.add_argument("--small", type=int, default=40)
    asyncio.run(main(parser.parse_args()))
