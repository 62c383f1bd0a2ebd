"""One API process by itself: its start time, its memory after many requests, and its throughput
under three times the load that saturates it.
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
        await get_batch.pin_to_server_core(api)
        await stack.until_ready()
        requests = get_batch.write_requests(stack, "plain", pairs)
        candidate = get_batch.Candidate("batchd", stack.port, requests)
        await measure_memory(candidate, api.pid, options)
        await measure_overload(candidate, options)
        await measure_pages(stack, options)
        await measure_second_process(stack, candidate, api.pid, options)


async def measure_start(
    stack: Stack, pairs: Sequence[tuple[str, str]], options: argparse.Namespace
) -> None:
    """Time from the command to the first response, the first batch and the first download URL."""
    await start_once(stack, *pairs[0])  # warm up: writes the bytecode, which an installation has
    starts = [await start_once(stack, *pair) for pair in pairs[: options.rounds]]
    alive_s, batch_s, download_s = map(median, zip(*starts, strict=True))
    print(
        f"start until it responds       {alive_s:.2f} s, get_batch {batch_s:.2f} s, download=true "
        f"{download_s:.2f} s, medians of {len(starts)}"
    )


async def start_once(stack: Stack, batch: str, secret: str) -> tuple[float, float, float]:
    start = time.monotonic()
    api = await stack.start("api")
    async with aiohttp.ClientSession(stack.api_url, headers={"Authorization": secret}) as session:
        alive_s = await first_response(session, "/healthz") - start
        batch_s = await first_response(session, f"/batches/{batch}") - start
        download_s = await first_response(session, f"/batches/{batch}?download=true") - start
    api.terminate()
    await api.wait()
    return alive_s, batch_s, download_s


async def first_response(session: aiohttp.ClientSession, path: str) -> float:
    """Retry until there is a response; return the time at which it arrived."""
    while True:
        try:
            async with session.get(path) as response:
                await response.read()
                assert response.status == 200
                return time.monotonic()
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.005)


async def measure_memory(
    candidate: get_batch.Candidate, pid: int, options: argparse.Namespace
) -> None:
    done = 0.0
    first = 0
    while done < options.requests:
        result = await get_batch.load(candidate, 64, 2 if not first else 20)
        done += result.rate * (2 if not first else 20)
        first = first or rss_kib(pid)
    last = rss_kib(pid)
    print(
        f"memory                        {first / 1024:.0f} MiB initially, {last / 1024:.0f} MiB "
        f"after {done:,.0f} requests: {last / first:.3f}"
    )


async def measure_overload(candidate: get_batch.Candidate, options: argparse.Namespace) -> None:
    """Alternate between the saturating number of connections and three times that number."""
    rates: dict[int, list[float]] = {SATURATING: [], 3 * SATURATING: []}
    for _ in range(options.rounds):
        for connections, measured in rates.items():
            result = await get_batch.load(candidate, connections, 4, tolerant=True)
            measured.append(result.rate)
    peak, overloaded = (median(measured) for measured in rates.values())
    print(
        f"goodput                       {peak:,.0f}/s at {SATURATING} connections, "
        f"{overloaded:,.0f}/s at {3 * SATURATING}: {overloaded / peak:.2f}"
    )


async def measure_pages(stack: Stack, options: argparse.Namespace) -> None:
    """Measure the first and the 90th page of 1,000 batches in an account that has 100,000."""
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
            for page, durations in times.items():
                start = time.monotonic()
                async with session.get(f"/batches?limit=1000{page}") as response:
                    assert len((await response.json())["batches"]) == 1000
                durations.append(time.monotonic() - start)
    first, late = (median(durations) * 1000 for durations in times.values())
    print(
        f"get_batches, 1,000 of 100,000 first page {first:.1f} ms, 90th {late:.1f} ms: "
        f"{late / first:.2f}"
    )


async def measure_second_process(
    stack: Stack, candidate: get_batch.Candidate, pid: int, options: argparse.Namespace
) -> None:
    """Measure two API processes on both cores, which wrk and PostgreSQL share."""
    both = {get_batch.SERVER_CORE, get_batch.LOAD_CORE}
    os.sched_setaffinity(pid, both)
    single = [(await get_batch.load(candidate, 64, 4)).rate for _ in range(options.rounds)]
    await stack.start("api")
    await asyncio.sleep(3)
    double = [(await get_batch.load(candidate, 128, 4)).rate for _ in range(options.rounds)]
    print(
        f"one process, two processes    {median(single):,.0f}/s, {median(double):,.0f}/s: "
        f"{median(double) / median(single):.2f}, with the load on the same two cores"
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
