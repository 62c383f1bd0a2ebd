"""Chaos: workers are killed and PostgreSQL is restarted while batches run; nothing is lost.

Prints the batches completed, the lines missing or duplicated in the results, the calls that the
upstream received again, and how long after a worker's death its chunks were taken over.
"""

import argparse
import asyncio
import json
import random
import re
import time
from asyncio.subprocess import Process
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from support.customer import customer
from support.http_operation import NAME, lines, run_upstream
from support.stack import Stack, User, run_stack

ACCOUNTS = 5
WORKERS = 3
_SILENCE = re.compile(r"taken over after ([0-9.]+) s")


@dataclass
class Disruptions:
    deaths: list[float] = field(default_factory=list)
    """Unix times at which a worker was killed."""
    database_down_s: float = 0.0


async def main(options: argparse.Namespace) -> None:
    with TemporaryDirectory() as name:
        async with (
            run_upstream(Path(name)) as upstream,
            run_stack(operations=upstream.file) as stack,
        ):
            await stack.start("api")
            workers = [await stack.start("worker") for _ in range(WORKERS)]
            await stack.until_ready()
            users = [await stack.user() for _ in range(ACCOUNTS)]
            start = time.monotonic()
            chaos = asyncio.create_task(kill_workers(stack, workers, options))
            outcomes = await asyncio.gather(
                *(
                    run_batch(stack, users[n % ACCOUNTS], options.lines)
                    for n in range(options.batches)
                )
            )
            duration_s = time.monotonic() - start
            disruptions = await chaos
            report(outcomes, options.lines)
            counts = await upstream.counts()
            total = options.batches * options.lines
            print(f"calls to the upstream         {counts['calls']} for {total} lines")
            print(f"  repeated                    {counts['calls'] - counts['keys']}")
            print(f"workers killed                {len(disruptions.deaths)}")
            print(f"PostgreSQL unavailable        {disruptions.database_down_s:.1f} s")
            silences, delays = takeovers(stack.logs("worker"), disruptions.deaths)
            print(f"chunks taken over             {len(delays)}")
            print(f"  after the death, longest    {longest(delays)} s")
            print(f"  after the last heartbeat    {longest(silences)} s")
            print(f"time                          {duration_s:.0f} s")


async def run_batch(stack: Stack, user: User, count: int) -> tuple[str, Counter[int]]:
    """Return the end status, and how many results each line has."""
    async with customer(stack.api_url, user.secret) as client:
        batch = await client.create(lines(count), NAME)
        status, _ = await client.end(batch, poll_s=1.0)
        results = [json.loads(line) for line in (await client.download(batch)).splitlines()]
    numbers = [result["line"] for result in results]
    assert numbers == sorted(numbers), "the results are not in the order of the file"
    failed = [result for result in results if result["outcome"] != "succeeded"]
    assert not failed, failed[0]
    return status, Counter(numbers)


async def kill_workers(
    stack: Stack, workers: list[Process], options: argparse.Namespace
) -> Disruptions:
    """Replace a random worker by a new one every few seconds; restart PostgreSQL once."""
    disruptions = Disruptions()
    rng = random.Random(options.seed)
    rounds = int(options.seconds / options.every_s)
    for number in range(rounds):
        await asyncio.sleep(options.every_s)
        if number == rounds // 2:
            start = time.monotonic()
            await stack.restart_database(down_s=1.0)
            disruptions.database_down_s = time.monotonic() - start
        for index, worker in enumerate(workers):
            if worker.returncode is not None:
                # It failed to start while PostgreSQL was unavailable.
                workers[index] = await stack.start("worker")
        victim = rng.randrange(len(workers))
        workers[victim].kill()
        disruptions.deaths.append(time.time())
        await workers[victim].wait()
        workers[victim] = await stack.start("worker")
    return disruptions


def takeovers(log: list[str], deaths: list[float]) -> tuple[list[float], list[float]]:
    """Return for each takeover the delays since the last heartbeat and since the worker's death.

    The log contains the time since the last heartbeat. The dead worker is the first that was killed
    after it, as a live worker sends one twice a second except while PostgreSQL is unavailable.
    """
    silences, delays = [], []
    for line in log:
        for silence in _SILENCE.findall(line):
            takeover = datetime.fromisoformat(json.loads(line)["ts"]).timestamp()
            heartbeat = takeover - float(silence)
            silences.append(takeover - heartbeat)
            delays.append(takeover - next(death for death in deaths if death > heartbeat - 0.1))
    return silences, delays


def longest(seconds: list[float]) -> str:
    return ", ".join(f"{s:.1f}" for s in sorted(seconds, reverse=True)[:5])


def report(outcomes: list[tuple[str, Counter[int]]], count: int) -> None:
    statuses = Counter(status for status, _ in outcomes)
    missing = sum(count - len(numbers) for _, numbers in outcomes)
    duplicates = sum(times - 1 for _, numbers in outcomes for times in numbers.values())
    print(f"batches                       {dict(statuses)}")
    print(f"lines missing in results      {missing}")
    print(f"duplicate lines in results    {duplicates}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=120, help="duration of the disruptions")
    parser.add_argument("--every-s", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(main(parser.parse_args()))
