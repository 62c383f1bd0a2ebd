"""The same no-op lines in plain PgQueuer, one job per line, with a results file in line order.

`python pgqueuer_peer.py FILE RESULTS`, with the URL of an empty database in PEER_DATABASE_URL. Jobs
are enqueued in bulk, with the settings that were fastest here; results are collected in memory.
"""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import asyncpg
import msgspec
import uvloop
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job

SLICE = 10_000


async def main(source: Path, target: Path) -> None:
    lines = source.read_bytes().splitlines()
    results: dict[int, bytes] = {}
    async with asyncpg.create_pool(os.environ["PEER_DATABASE_URL"], min_size=3) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        await queries.install()
        for start in range(0, len(lines), SLICE):
            indexes = range(start, min(start + SLICE, len(lines)))
            await queries.enqueue(
                ["no_op"] * len(indexes),
                [msgspec.json.encode([number, msgspec.Raw(lines[number])]) for number in indexes],
                [0] * len(indexes),
            )
        await pool.execute("ANALYZE pgqueuer")
        manager = QueueManager(queries)

        @manager.entrypoint("no_op")
        async def no_op(job: Job) -> None:
            number, line = msgspec.json.decode(job.payload or b"")
            record = {"line": number + 1, "id": line["id"], "outcome": "succeeded"}
            results[number] = msgspec.json.encode({**record, "status": 200, "body": {}})
            if len(results) == len(lines):
                manager.shutdown.set()

        await manager.run(
            dequeue_timeout=timedelta(seconds=1), batch_size=100, max_concurrent_tasks=400
        )
    with target.open("wb") as file:
        for number in range(len(lines)):
            file.write(results[number] + b"\n")


if __name__ == "__main__":
    start_time = time.monotonic()
    uvloop.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
    print(time.monotonic() - start_time)
