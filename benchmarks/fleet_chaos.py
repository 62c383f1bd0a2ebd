"""Chaos: workers are killed and PostgreSQL is restarted while batches run; nothing is lost.

Prints: batches completed, lines missing and doubled in the results, calls that the upstream saw
again, and how long after a worker's death its chunks were taken over.
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
class Killing:
    deaths: list[float] = field(default_factory=list)
    """When (Unix time) a worker was killed."""
    away_s: float = 0.0
    """How long PostgreSQL did not answer."""


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
            began = time.monotonic()
            killing = asyncio.create_task(kill_workers(stack, workers, options))
            found = await asyncio.gather(
                *(
                    run_batch(stack, users[n % ACCOUNTS], options.lines)
                    for n in range(options.batches)
                )
            )
            took_s = time.monotonic() - began
            killed = await killing
            report(found, options.lines)
            counts = await upstream.counts()
            total = options.batches * options.lines
            print(f"calls of the upstream         {counts['calls']} for {total} lines")
            print(f"  made again                  {counts['calls'] - counts['keys']}")
            print(f"workers killed                {len(killed.deaths)}")
            print(f"PostgreSQL was away           {killed.away_s:.1f} s")
            silences, waits = take_overs(stack.logs("worker"), killed.deaths)
            print(f"chunks taken over             {len(waits)}")
            print(f"  after the death, at most    {longest(waits)} s")
            print(f"  after the last pulse        {longest(silences)} s")
            print(f"time                          {took_s:.0f} s")


async def run_batch(stack: Stack, user: User, count: int) -> tuple[str, Counter[int]]:
    """Return the end status, and how often each line stands in the results."""
    async with customer(stack.api_url, user.secret) as caller:
        batch = await caller.create(lines(count), NAME)
        status, _ = await caller.end(batch, poll_s=1.0)
        results = [json.loads(line) for line in (await caller.download(batch)).splitlines()]
    numbers = [result["line"] for result in results]
    assert numbers == sorted(numbers), "the results are not in the order of the file"
    failed = [result for result in results if result["outcome"] != "succeeded"]
    assert not failed, failed[0]
    return status, Counter(numbers)


async def kill_workers(
    stack: Stack, workers: list[Process], options: argparse.Namespace
) -> Killing:
    """Kill a random worker every few seconds, and start another; restart PostgreSQL once."""
    killed = Killing()
    rng = random.Random(options.seed)
    rounds = int(options.seconds / options.every_s)
    for number in range(rounds):
        await asyncio.sleep(options.every_s)
        if number == rounds // 2:
            began = time.monotonic()
            await stack.restart_database(away_s=1.0)
            killed.away_s = time.monotonic() - began
        for place, worker in enumerate(workers):
            if worker.returncode is not None:
                # It was starting while PostgreSQL was away, and refused to.
                workers[place] = await stack.start("worker")
        victim = rng.randrange(len(workers))
        workers[victim].kill()
        killed.deaths.append(time.time())
        await workers[victim].wait()
        workers[victim] = await stack.start("worker")
    return killed


def take_overs(log: list[str], deaths: list[float]) -> tuple[list[float], list[float]]:
    """Return how long after the last pulse, and after the death, each chunk was taken over.

    The log tells when its worker was last heard of: who died is the first killed after that, for a
    worker that lives is heard twice a second, except while PostgreSQL is away.
    """
    silences, waits = [], []
    for line in log:
        for silence in _SILENCE.findall(line):
            taken = datetime.fromisoformat(json.loads(line)["ts"]).timestamp()
            heard = taken - float(silence)
            silences.append(taken - heard)
            waits.append(taken - next(death for death in deaths if death > heard - 0.1))
    return silences, waits


def longest(seconds: list[float]) -> str:
    return ", ".join(f"{s:.1f}" for s in sorted(seconds, reverse=True)[:5])


def report(found: list[tuple[str, Counter[int]]], count: int) -> None:
    statuses = Counter(status for status, _ in found)
    missing = sum(count - len(numbers) for _, numbers in found)
    doubled = sum(times - 1 for _, numbers in found for times in numbers.values())
    print(f"batches                       {dict(statuses)}")
    print(f"lines missing in results      {missing}")
    print(f"lines twice in results        {doubled}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=120, help="how long workers are killed")
    parser.add_argument("--every-s", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(main(parser.parse_args()))
