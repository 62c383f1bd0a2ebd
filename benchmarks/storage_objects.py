"""What it costs to write and read an object: the storage of batchd against bare aiobotocore.

Both talk to the same SeaweedFS and alternate in each round. Counted is the CPU time of this
process, threads included, so the server's does not matter. Prints Markdown: medians with the
smallest and the largest round, and the ratio.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import uvloop
from support.table import machine

from batchd.devstack.seaweedfs import SeaweedFS, run_seaweedfs
from batchd.domain.ports import StorageContext
from batchd.plugins.s3 import s3_storage
from batchd.plugins.s3.objects import PIECE_BYTES
from batchd.plugins.s3.storage import S3Storage

SIZES = {"60 kB": (60_000, 200), "1 MB": (1_000_000, 40), "64 MB": (64_000_000, 2)}
"""Bytes, and calls in each round."""
KEY = "benchmark"
Call = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sides:
    """The same two calls, by each side."""

    storage: S3Storage

    async def put(self, data: bytes) -> None:
        async with self.storage.write(KEY) as writer:
            await writer.write(data)

    async def get(self, data: bytes) -> None:
        async with self.storage.read(KEY) as pieces:
            size = sum([len(piece) async for piece in pieces])
        if size != len(data):
            raise RuntimeError(f"read {size} bytes of {len(data)}")

    async def bare_put(self, data: bytes) -> None:
        await self.storage.client.put_object(
            Bucket=self.storage.bucket, Key=KEY, Body=BytesIO(data)
        )

    async def bare_get(self, data: bytes) -> None:
        response = await self.storage.client.get_object(Bucket=self.storage.bucket, Key=KEY)
        size = 0
        async with response["Body"] as body:
            while piece := await body.read(PIECE_BYTES):
                size += len(piece)
        if size != len(data):
            raise RuntimeError(f"read {size} bytes of {len(data)}")


async def measure(call: Call, data: bytes, count: int) -> tuple[float, float]:
    """Return the milliseconds of CPU time, and of time, that a call takes."""
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(count):
        await call(data)
    return (
        (time.process_time() - cpu) / count * 1e3,
        (time.perf_counter() - start) / count * 1e3,
    )


def format_values(values: list[float]) -> str:
    return f"{statistics.median(values):,.2f} ({min(values):,.2f} to {max(values):,.2f})"


async def compare(name: str, bare: Call, ours: Call, data: bytes, count: int, rounds: int) -> None:
    measured: dict[Call, list[tuple[float, float]]] = {bare: [], ours: []}
    await measure(bare, data, 1)
    await measure(ours, data, 1)
    for number in range(rounds):
        for call in (bare, ours) if number % 2 else (ours, bare):
            measured[call].append(await measure(call, data, count))
    cells = []
    for index in (0, 1):
        sides = [[values[index] for values in measured[call]] for call in (bare, ours)]
        ratio = statistics.median(
            one / other for one, other in zip(sides[0], sides[1], strict=True)
        )
        cells += [*map(format_values, sides), f"{ratio:.1f}"]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def context_of(s3: SeaweedFS) -> StorageContext:
    values = {
        "ENDPOINT": s3.endpoint,
        "BUCKET": s3.bucket,
        "ACCESS_KEY": s3.access_key,
        "SECRET_KEY": s3.secret_key,
    }
    return StorageContext(
        environment={f"BATCHD_S3_{name}": value for name, value in values.items()}
    )


async def main(rounds: int) -> None:
    print(f"{machine()}. Milliseconds a call: median of {rounds} rounds (smallest to largest).\n")
    print(
        "| | CPU, aiobotocore | CPU, batchd | ratio | time, aiobotocore | time, batchd | ratio |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as folder:
        async with (
            run_seaweedfs(Path(folder) / "s3") as s3,
            s3_storage(context_of(s3)) as storage,
        ):
            if not isinstance(storage, S3Storage):
                raise TypeError(storage)
            sides = Sides(storage)
            for name, (size, count) in SIZES.items():
                data = bytes(range(256)) * (size // 256 + 1)
                data = data[:size]
                for verb, bare, ours in (
                    ("put", sides.bare_put, sides.put),
                    ("get", sides.bare_get, sides.get),
                ):
                    await compare(f"{name}, {verb}", bare, ours, data, count, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    uvloop.run(main(parser.parse_args().rounds))
