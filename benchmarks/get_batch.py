"""get_batch: requests/s compared with a bare server, a server with one query, and the usual stack.

The server has one core; wrk and PostgreSQL have the other. Random batches among a million rows in a
hundred accounts, three hundred callers. The candidates alternate, round by round.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
import urllib.request
from asyncio.subprocess import Process
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import asyncpg
from support import table
from support.stack import Stack, User, run_stack

from batchd.devstack.ports import reserve_port

SUPPORT = Path(__file__).with_name("support")
SERVER_CORE, LOAD_CORE = 0, 1
ACCOUNTS, CALLERS = 100, 300
PAIRS = 20_000

_ROWS = """
INSERT INTO batches (batch, account, user_id, handler, request_hash, operation, status,
    created_ts, updated_ts, hash, download_key, results_size, results_lines, results_sha256)
SELECT gen_random_uuid(), u.account, u.user_id, gen_random_uuid(), '', 'get_batch', 'completed',
    now() - n * interval '1 s', now(), CASE WHEN n % 2 = 0 THEN encode(sha256('x'), 'hex') END,
    'batches/' || gen_random_uuid() || '/results.1.jsonl', 1000, 10, encode(sha256('x'), 'hex')
FROM generate_series(1, $1) AS n
JOIN (SELECT *, row_number() OVER () - 1 AS k FROM users) AS u
ON u.k = n % (SELECT count(*) FROM users)
"""
_SAMPLE = "SELECT batch, account FROM batches TABLESAMPLE SYSTEM ($1) ORDER BY random() LIMIT $2"


class Result(NamedTuple):
    rate: float
    """Requests a second."""
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    port: int
    requests: Path


async def main(options: argparse.Namespace) -> None:
    if shutil.which("wrk") is None:
        sys.exit("This benchmark needs wrk (Debian: apt install wrk).")
    print(f"{table.machine()}; {options.rows:,} rows, {ACCOUNTS} accounts, {CALLERS} callers\n")
    async with run_stack(database_pool=10) as stack:
        for process in postgres_and_s3(stack):
            os.sched_setaffinity(process, {LOAD_CORE})
        pairs = await fill(stack, options.rows)
        await pin_to_server_core(await stack.start("api"))
        await stack.until_ready()
        body = get_body(stack.api_url, *pairs[0])
        candidates = [
            Candidate(
                "bare aiohttp",
                await peer(stack, "status_bare.py", body=body),
                write_requests(stack, "plain", pairs),
            ),
            Candidate(
                "aiohttp + fetchrow",
                await peer(stack, "status_fetchrow.py"),
                write_requests(stack, "plain", pairs),
            ),
            Candidate(
                "FastAPI, SQLAlchemy, Casbin, boto3",
                await peer(stack, "status_usual.py"),
                write_requests(stack, "plain", pairs),
            ),
            Candidate("batchd", stack.port, write_requests(stack, "plain", pairs)),
            Candidate(
                "batchd, download=true",
                stack.port,
                write_requests(stack, "download", pairs, query="?download=true"),
            ),
            Candidate(
                "batchd, 304",
                stack.port,
                write_requests(stack, "etag", pairs[:2000], etags=True, url=stack.api_url),
            ),
        ]
        for connections in options.connections:
            await compare(candidates, connections, options)


def get_body(url: str, batch: str, secret: str) -> str:
    request = urllib.request.Request(f"{url}/batches/{batch}", headers={"Authorization": secret})
    with urllib.request.urlopen(request) as response:
        body: str = response.read().decode()
    return body


def get_etag(url: str, batch: str, secret: str) -> str:
    request = urllib.request.Request(f"{url}/batches/{batch}", headers={"Authorization": secret})
    with urllib.request.urlopen(request) as response:
        value: str = response.headers["ETag"]
    return value


def write_requests(
    stack: Stack,
    name: str,
    pairs: Sequence[tuple[str, str]],
    *,
    query: str = "",
    etags: bool = False,
    url: str = "",
) -> Path:
    """Write the file of the requests that wrk sends."""
    path = stack.folder / f"{name}.requests"
    if not path.exists():
        with path.open("w") as file:
            for batch, secret in pairs:
                tag = get_etag(url, batch, secret) if etags else ""
                file.write(f"/batches/{batch}{query}\t{secret}\t{tag}\n")
    return path


def postgres_and_s3(stack: Stack) -> Iterable[int]:
    """Return the child processes, before any candidate is started."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return map(int, children)


async def pin_to_server_core(process: Process) -> None:
    os.sched_setaffinity(process.pid, {SERVER_CORE})


async def fill(stack: Stack, rows: int) -> list[tuple[str, str]]:
    """Create accounts, callers and batches; return pairs of a batch and a secret of its account."""
    users: dict[str, list[User]] = {}
    for _ in range(ACCOUNTS):
        first = await stack.user()
        others = [await stack.user(first.account) for _ in range(CALLERS // ACCOUNTS - 1)]
        users[first.account] = [first, *others]
    connection = await asyncpg.connect(stack.env["BATCHD_DATABASE_URL"])
    try:
        await connection.execute(_ROWS, rows, timeout=600)
        await connection.execute("VACUUM ANALYZE batches", timeout=600)
        sample = await connection.fetch(_SAMPLE, min(100, 300 * PAIRS / rows), PAIRS)
    finally:
        await connection.close()
    rng = random.Random(1)
    return [(str(row["batch"]), rng.choice(users[str(row["account"])]).secret) for row in sample]


async def peer(stack: Stack, program: str, *, body: str = "") -> int:
    with reserve_port(0) as port:
        pass
    command = [sys.executable, str(SUPPORT / program)]
    if program == "status_usual.py":
        command = [
            *(sys.executable, "-m", "uvicorn", "status_usual:app", "--app-dir", str(SUPPORT)),
            *("--port", str(port), "--no-access-log", "--log-level", "warning"),
        ]
    env = {**stack.env, "PEER_PORT": str(port), "PEER_BODY": body}
    process = await asyncio.create_subprocess_exec(*command, env=env)
    stack.processes.append(process)
    await pin_to_server_core(process)
    async with asyncio.timeout(20):
        while not await is_listening(port):
            await asyncio.sleep(0.1)
    return port


async def is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def compare(
    candidates: Sequence[Candidate], connections: int, options: argparse.Namespace
) -> None:
    measured: dict[str, list[Result]] = {candidate.name: [] for candidate in candidates}
    for candidate in candidates:  # warm up
        await load(candidate, connections, 2)
    for _ in range(options.rounds):
        for candidate in candidates:
            measured[candidate.name].append(await load(candidate, connections, options.seconds))
    print(f"{connections} connections\n")
    rates = {name: [result.rate for result in results] for name, results in measured.items()}
    print(table.rates("candidate", rates, "requests/s"))
    print(latencies(measured), flush=True)


def latencies(measured: Mapping[str, Sequence[Result]]) -> str:
    rows = ["| candidate | p50 ms | p99 ms |", "| --- | ---: | ---: |"]
    for name, results in measured.items():
        p50, p99 = median(r.p50_ms for r in results), median(r.p99_ms for r in results)
        rows.append(f"| {name} | {p50:.1f} | {p99:.1f} |")
    return "\n".join(rows) + "\n"


async def load(
    candidate: Candidate, connections: int, seconds: int, *, tolerant: bool = False
) -> Result:
    """Return wrk's measurements without refused requests, which are an error unless `tolerant`."""
    process = await asyncio.create_subprocess_exec(
        *("taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"),
        *(
            "--timeout",
            "20s",
            "-s",
            str(SUPPORT / "status.lua"),
            f"http://127.0.0.1:{candidate.port}",
        ),
        env={**os.environ, "STATUS_REQUESTS": str(candidate.requests)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    words = next(line for line in output.decode().splitlines() if line.startswith("RESULT")).split()
    duration, requests, failed, p50, p99 = map(float, words[1:])
    assert tolerant or not failed, f"{candidate.name}: {failed:.0f} failed\n{output.decode()}"
    return Result((requests - failed) / duration, p50, p99)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    asyncio.run(main(parser.parse_args()))
