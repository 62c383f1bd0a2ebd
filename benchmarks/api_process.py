"""One API process by itself: how soon it answers, what it needs after many requests, and how it
takes three times the load that saturates it.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import aiohttp
import asyncpg
import get_batch
from support import table
from support.stack import Stack, run_stack

SATURATING = 256
_LARGE_ACCOUNT = """
INSERT INTO batches (batch, account, user_id, handler, request_hash, operation, status,
    created_ts, updated_ts)
SELECT gen_random_uuid(), account, user_id, gen_random_uuid(), '', 'get_batch', 'completed',
    now() - n * interval '1 s', now()
FROM users, generate_series(1, 100000) AS n WHERE account = $1::text::uuid
"""


async def main(options: argparse.Namespace) -> None:
    print(f"{table.machine()}\n")
    async with run_stack() as stack:
        for process in get_batch.postgres_and_s3(stack):
            os.sched_setaffinity(process, {get_batch.LOAD_CORE})
        pairs = await get_batch.fill(stack, options.rows)
        await measure_start(stack, pairs, options)
        api = await stack.start("api")
        await get_batch.pinned(api)
        await stack.until_ready()
        requests = get_batch.written(stack, "plain", pairs)
        side = get_batch.Side("batchd", stack.port, requests)
        await measure_memory(side, api.pid, options)
        await measure_overload(side, options)
        await measure_pages(stack, options)
        await measure_second_process(stack, side, api.pid, options)


async def measure_start(
    stack: Stack, pairs: Sequence[tuple[str, str]], options: argparse.Namespace
) -> None:
    """From the command to the first answer, the first look at a batch, the first download URL."""
    await start_once(stack, *pairs[0])  # writes the bytecode, as an installation does
    starts = [await start_once(stack, *pair) for pair in pairs[: options.rounds]]
    alive, look, download = map(median, zip(*starts, strict=True))
    print(
        f"start until it answers        {alive:.2f} s, get_batch {look:.2f} s, download=true "
        f"{download:.2f} s, medians of {len(starts)}"
    )


async def start_once(stack: Stack, batch: str, secret: str) -> tuple[float, float, float]:
    began = time.monotonic()
    api = await stack.start("api")
    async with aiohttp.ClientSession(stack.api_url, headers={"Authorization": secret}) as session:
        alive = await until_answered(session, "/healthz") - began
        look = await until_answered(session, f"/batches/{batch}") - began
        download = await until_answered(session, f"/batches/{batch}?download=true") - began
    api.terminate()
    await api.wait()
    return alive, look, download


async def until_answered(session: aiohttp.ClientSession, path: str) -> float:
    """Ask until there is an answer; return when it came."""
    while True:
        try:
            async with session.get(path) as response:
                await response.read()
                assert response.status == 200
                return time.monotonic()
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.005)


async def measure_memory(side: get_batch.Side, pid: int, options: argparse.Namespace) -> None:
    done = 0.0
    first = 0
    while done < options.requests:
        result = await get_batch.load(side, 64, 2 if not first else 20)
        done += result.rate * (2 if not first else 20)
        first = first or rss_kib(pid)
    last = rss_kib(pid)
    print(
        f"memory                        {first / 1024:.0f} MiB at first, {last / 1024:.0f} MiB "
        f"after {done:,.0f} requests: {last / first:.3f}"
    )


async def measure_overload(side: get_batch.Side, options: argparse.Namespace) -> None:
    """Three times the connections that saturate it, beside the peak, in turns."""
    rates: dict[int, list[float]] = {SATURATING: [], 3 * SATURATING: []}
    for _ in range(options.rounds):
        for connections, measured in rates.items():
            result = await get_batch.load(side, connections, 4, tolerant=True)
            measured.append(result.rate)
    peak, beyond = (median(measured) for measured in rates.values())
    print(
        f"goodput                       {peak:,.0f}/s at {SATURATING} connections, "
        f"{beyond:,.0f}/s at {3 * SATURATING}: {beyond / peak:.2f}"
    )


async def measure_pages(stack: Stack, options: argparse.Namespace) -> None:
    """The first and the 90th page of a thousand batches of an account that has 100,000."""
    user = await stack.user()
    connection = await asyncpg.connect(stack.env["BATCHD_DATABASE_URL"])
    try:
        await connection.execute(_LARGE_ACCOUNT, user.account, timeout=300)
        await connection.execute("VACUUM ANALYZE batches", timeout=300)
    finally:
        await connection.close()
    headers = {"Authorization": user.secret}
    async with aiohttp.ClientSession(stack.api_url, headers=headers) as session:
        cursor = ""
        for _ in range(89):
            async with session.get(f"/batches?limit=1000{cursor}") as response:
                cursor = f"&cursor={(await response.json())['cursor']}"
        times: dict[str, list[float]] = {"": [], cursor: []}
        for _ in range(20 * options.rounds):
            for page, taken in times.items():
                began = time.monotonic()
                async with session.get(f"/batches?limit=1000{page}") as response:
                    assert len((await response.json())["batches"]) == 1000
                taken.append(time.monotonic() - began)
    first, late = (median(taken) * 1000 for taken in times.values())
    print(
        f"get_batches, 1,000 of 100,000 first page {first:.1f} ms, 90th {late:.1f} ms: "
        f"{late / first:.2f}"
    )


async def measure_second_process(
    stack: Stack, side: get_batch.Side, pid: int, options: argparse.Namespace
) -> None:
    """Two API processes on both cores, which wrk and PostgreSQL need as well."""
    both = {get_batch.SERVER_CORE, get_batch.LOAD_CORE}
    os.sched_setaffinity(pid, both)
    one = [(await get_batch.load(side, 64, 4)).rate for _ in range(options.rounds)]
    await stack.start("api")
    await asyncio.sleep(3)
    two = [(await get_batch.load(side, 128, 4)).rate for _ in range(options.rounds)]
    print(
        f"two processes beside one      {median(one):,.0f}/s, {median(two):,.0f}/s: "
        f"{median(two) / median(one):.2f}, with the load on the same two cores"
    )


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args()))
