"""Chaos: workers are killed, PostgreSQL is restarted, and a standby that lags is promoted.

The standby replicates asynchronously. It stops receiving some seconds before the primary is killed:
what was committed in these lost seconds is forgotten. A batch that was created in them does not
exist any more: its caller gets 404 and creates it again, which is counted. Every batch is looked
at, and its results are downloaded, when all disruptions are over, also if it had ended before.
"""

import argparse
import asyncio
import json
import random
import re
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from support import table
from support.customer import END_STATUSES, CallRefused, Customer, customer
from support.http_operation import NAME, lines, run_upstream
from support.stack import Stack, User, run_stack

ACCOUNTS = 5
WORKERS = 3
CREATED_WITHIN = 0.8
"""The part of the disruptions' duration over which the creation of the batches is spread."""
_SILENCE = re.compile(r"was taken over, ([0-9.]+) s after")


@dataclass
class Disruptions:
    """Unix times of what was done to the stack."""

    deaths: list[float] = field(default_factory=list)
    """When a worker was killed."""
    restart: tuple[float, float] = (0.0, 0.0)
    """When PostgreSQL was stopped, and when it was back."""
    cut: float = 0.0
    """When the standby stopped receiving."""
    failover: tuple[float, float] = (0.0, 0.0)
    """When the primary was killed, and when the standby was promoted."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def database_changed(self, since: float, until: float) -> bool:
        """Return whether heartbeats were impossible, or forgotten, between these times."""
        spans = (self.restart, (self.cut, self.failover[1]))
        return any(start - 1 < until and since < end + 1 for start, end in spans)


@dataclass
class Outcome:
    """What became of one batch file, for its caller."""

    status: str = ""
    results: Counter[int] = field(default_factory=Counter)
    """The number of results of each line."""
    failed: int = 0
    is_download_missing: bool = False
    forgotten: list[float] = field(default_factory=list)
    """When the batches were created, in Unix time, that the database forgot."""
    reverted: bool = False
    """The caller saw an end status, and later one that precedes it."""


async def main(options: argparse.Namespace) -> None:
    with TemporaryDirectory() as name:
        async with (
            run_upstream(Path(name)) as upstream,
            run_stack(with_standby=True, operations=upstream.file) as stack,
        ):
            await stack.start("api")
            workers = [await stack.start("worker") for _ in range(WORKERS)]
            await stack.until_ready()
            users = [await stack.user() for _ in range(ACCOUNTS)]
            start_time = time.monotonic()
            disruptions = Disruptions()
            replacing = asyncio.create_task(replace_workers(stack, workers))
            async with asyncio.TaskGroup() as group:
                group.create_task(disrupt(stack, workers, disruptions, options))
                runs = [
                    group.create_task(run_batch(stack, user, disruptions, options, delay_s=delay_s))
                    for user, delay_s in schedule(users, options)
                ]
            duration_s = time.monotonic() - start_time
            replacing.cancel()
            report([run.result() for run in runs], disruptions, options.lines)
            report_calls(await upstream.counts(), options.batches * options.lines)
            report_takeovers(stack.logs("worker"), disruptions)
            print(f"time                          {duration_s:.0f} s ({table.machine()})")


def schedule(users: list[User], options: argparse.Namespace) -> Iterable[tuple[User, float]]:
    """Yield the owner of each batch, and after how many seconds it is created."""
    interval_s = options.seconds * CREATED_WITHIN / options.batches
    for number in range(options.batches):
        yield users[number % ACCOUNTS], number * interval_s


async def run_batch(
    stack: Stack,
    user: User,
    disruptions: Disruptions,
    options: argparse.Namespace,
    *,
    delay_s: float,
) -> Outcome:
    """Create the batch, again if the database forgets it, and look at it when all is over."""
    await asyncio.sleep(delay_s)
    outcome = Outcome()
    async with customer(stack.api_url, user.secret) as client:
        while True:
            created = time.time()
            try:
                batch = await client.create(lines(options.lines), NAME)
                created = time.time()
                await client.end(batch, poll_s=1.0)
                await disruptions.over.wait()
                state = await client.call("GET", f"/batches/{batch}")
                outcome.reverted |= state["status"] not in END_STATUSES
                outcome.status, _ = await client.end(batch, poll_s=1.0)
            except CallRefused as refused:
                if refused.status != 404:
                    raise
                outcome.forgotten.append(created)
            else:
                await read_results(client, batch, outcome)
                return outcome


async def read_results(client: Customer, batch: str, outcome: Outcome) -> None:
    try:
        data = await client.download(batch)
    except (KeyError, aiohttp.ClientResponseError):
        outcome.is_download_missing = True
        return
    results = [json.loads(line) for line in data.splitlines()]
    numbers = [result["line"] for result in results]
    assert numbers == sorted(numbers), "the results are not in the order of the file"
    outcome.results = Counter(numbers)
    outcome.failed = sum(result["outcome"] != "succeeded" for result in results)


async def disrupt(
    stack: Stack, workers: list[Process], disruptions: Disruptions, options: argparse.Namespace
) -> None:
    killing = asyncio.create_task(kill_workers(workers, disruptions, options))
    await disrupt_database(stack, disruptions, options)
    await killing
    disruptions.over.set()


async def disrupt_database(
    stack: Stack, disruptions: Disruptions, options: argparse.Namespace
) -> None:
    """Restart PostgreSQL after a quarter of the time; fail over to the standby in the middle."""
    start_time = time.monotonic()
    await asyncio.sleep(options.seconds / 4)
    stopped = time.time()
    await stack.restart_database(down_s=1.0)
    disruptions.restart = (stopped, time.time())
    pair = stack.replicated_pair()
    await asyncio.sleep(start_time + options.seconds / 2 - time.monotonic())
    await pair.cut_replication()
    disruptions.cut = time.time()
    await asyncio.sleep(options.lag_s)
    killed = time.time()
    await pair.fail_over()
    disruptions.failover = (killed, time.time())


async def kill_workers(
    workers: list[Process], disruptions: Disruptions, options: argparse.Namespace
) -> None:
    """Kill a random worker every few seconds."""
    rng = random.Random(options.seed)
    for _ in range(int(options.seconds / options.every_s)):
        await asyncio.sleep(options.every_s)
        victim = rng.choice(workers)
        if victim.returncode is None:
            victim.kill()
            disruptions.deaths.append(time.time())


async def replace_workers(stack: Stack, workers: list[Process]) -> None:
    """Start a new worker for each that was killed, or failed to start without PostgreSQL."""
    while True:
        for index, worker in enumerate(workers):
            if worker.returncode is not None:
                workers[index] = await stack.start("worker")
        await asyncio.sleep(0.2)


def report(outcomes: list[Outcome], disruptions: Disruptions, count: int) -> None:
    statuses = Counter(outcome.status for outcome in outcomes)
    missing = sum(count - len(outcome.results) for outcome in outcomes)
    duplicates = sum(times - 1 for outcome in outcomes for times in outcome.results.values())
    forgotten = [created for outcome in outcomes for created in outcome.forgotten]
    early = sum(created < disruptions.cut for created in forgotten)
    lost_s = disruptions.failover[0] - disruptions.cut
    print(f"batches                       {dict(statuses)}")
    print(f"lines missing in results      {missing}")
    print(f"duplicate lines in results    {duplicates}")
    print(f"lines that failed             {sum(outcome.failed for outcome in outcomes)}")
    print(f"downloads that are not there  {sum(o.is_download_missing for o in outcomes)}")
    print(f"workers killed                {len(disruptions.deaths)}")
    print(f"PostgreSQL restarted, down    {duration(disruptions.restart):.1f} s")
    print(f"failover, down                {duration(disruptions.failover):.1f} s")
    print(f"  seconds lost                {lost_s:.1f} s")
    print(f"  batches created again       {len(forgotten)}, of these from before: {early}")
    print(f"  batches back from their end {sum(outcome.reverted for outcome in outcomes)}")


def report_calls(counts: Mapping[str, Any], total: int) -> None:
    print(f"calls to the upstream         {counts['calls']} for {total} lines")
    print(f"  repeated                    {counts['calls'] - counts['keys']}")
    print(f"  of forgotten batches        {counts['keys'] - total}")


def report_takeovers(log: list[str], disruptions: Disruptions) -> None:
    """Print how long after the worker's last heartbeat, and its death, chunks were taken over.

    The log contains the time since the last heartbeat. The dead worker is the first that was killed
    after it, as a live worker sends one twice a second, except while PostgreSQL is unavailable.
    """
    silences, delays = [], []
    for line in log:
        for silence in map(float, _SILENCE.findall(line)):
            takeover = datetime.fromisoformat(json.loads(line)["ts"]).timestamp()
            heartbeat = takeover - silence
            silences.append(silence)
            death = next((death for death in disruptions.deaths if death > heartbeat - 0.1), None)
            if death is not None and not disruptions.database_changed(heartbeat, takeover):
                delays.append(takeover - death)
    print(f"chunks taken over             {len(silences)}")
    print(f"  after the last heartbeat    {longest(silences)} s")
    print(f"  after the death             {longest(delays)} s, PostgreSQL being available")


def duration(span: tuple[float, float]) -> float:
    return span[1] - span[0]


def longest(seconds: list[float]) -> str:
    return ", ".join(f"{s:.1f}" for s in sorted(seconds, reverse=True)[:5])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=120, help="duration of the disruptions")
    parser.add_argument("--lag-s", type=float, default=8, help="seconds that the failover loses")
    parser.add_argument("--every-s", type=float, default=5, help="seconds between killed workers")
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(main(parser.parse_args()))
