"""Load on an upstream: interactive requests to it while a batch runs, and the batch's throughput.

The upstream works on a number of calls at once and queues the others. The batch runs with fixed
concurrencies and with the adaptive one, in turn; interactive requests go to the upstream directly.
"""

import argparse
import asyncio
import time
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import aiohttp
from support.customer import Customer, customer
from support.http_operation import Upstream, lines, run_upstream
from support.stack import run_stack
from support.table import machine

ADAPTIVE = "adaptive"
ALONE = "alone"
_INTERVAL_S = 0.02
_WARM_UP_S = 4.0
_OPERATION = """
[operations.{name}]
method = "POST"
url = "http://127.0.0.1:{{port}}/customers/{{{{customer}}}}/invoices"
concurrency = {concurrency}
adaptive_concurrency = {is_adaptive}
body = {{{{ type = "object" }}}}
"""


def operations(fixed: list[int], maximum: int) -> str:
    """Return the template of a file with an operation for each side."""
    sides = [(f"fixed_{number}", number, "false") for number in fixed]
    return "".join(
        _OPERATION.format(name=name, concurrency=concurrency, is_adaptive=is_adaptive)
        for name, concurrency, is_adaptive in [*sides, (ADAPTIVE, maximum, "true")]
    )


async def main(options: argparse.Namespace) -> None:
    print(f"{machine()}\n")
    arguments = ("--capacity", str(options.capacity), "--call-s", str(options.call_s))
    template = operations(options.fixed, options.maximum)
    sides = [ALONE, *(f"fixed_{number}" for number in options.fixed), ADAPTIVE]
    latencies_s: dict[str, list[float]] = {side: [] for side in sides}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    with TemporaryDirectory() as name:
        async with (
            run_upstream(Path(name), operations=template, arguments=arguments) as upstream,
            run_stack(operations=upstream.file) as stack,
        ):
            await stack.start("api")
            await stack.until_ready()
            user = await stack.user()
            await stack.start("worker")
            async with customer(stack.api_url, user.secret) as client:
                for _ in range(options.rounds):
                    for side in sides:
                        values_s, rate = await measure(client, upstream, side, options)
                        latencies_s[side] += values_s
                        rates[side].append(rate)
    report(latencies_s, rates)


async def measure(
    client: Customer, upstream: Upstream, side: str, options: argparse.Namespace
) -> tuple[list[float], float]:
    """Return the durations of interactive requests, and the lines run per second meanwhile."""
    if side == ALONE:
        return await interactive(upstream, options.seconds), 0.0
    batch = await client.create(lines(options.lines), side)
    while (await client.call("GET", f"/batches/{batch}"))["status"] != "processing":
        await asyncio.sleep(0.05)
    await asyncio.sleep(_WARM_UP_S)
    before, started_at = (await upstream.counts())["calls"], time.monotonic()
    values_s = await interactive(upstream, options.seconds)
    after, ended_at = (await upstream.counts())["calls"], time.monotonic()
    await client.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    await client.end(batch)
    return values_s, (after - before - len(values_s)) / (ended_at - started_at)


async def interactive(upstream: Upstream, seconds: float) -> list[float]:
    """Make requests at fixed times, whether earlier ones have been answered or not."""
    async with aiohttp.ClientSession() as session:

        async def request() -> float:
            started_at = time.monotonic()
            async with session.post(f"{upstream.url}/interactive", data=b"{}") as response:
                await response.read()
            return time.monotonic() - started_at

        tasks = []
        started_at = time.monotonic()
        for number in range(int(seconds / _INTERVAL_S)):
            await asyncio.sleep(max(0.0, started_at + number * _INTERVAL_S - time.monotonic()))
            tasks.append(asyncio.create_task(request()))
        return await asyncio.gather(*tasks)


def report(latencies_s: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    best = max(median(values) for side, values in rates.items() if side != ADAPTIVE)
    p99_s = {side: quantiles(values, n=100)[98] for side, values in latencies_s.items()}
    print("| batch | interactive p50 ms | p99 ms | vs alone | lines/s | vs best fixed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for side, values in latencies_s.items():
        print(
            f"| {side} | {1000 * median(values):.1f} | {1000 * p99_s[side]:.1f} "
            f"| {p99_s[side] / p99_s[ALONE]:.2f} | {median(rates[side]):,.0f} "
            f"| {median(rates[side]) / best:.2f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=int, default=16, help="calls that are worked on at once")
    parser.add_argument("--call-s", type=float, default=0.05)
    parser.add_argument("--fixed", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--maximum", type=int, default=64, help="bound of the adaptive one")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(main(parser.parse_args()))
