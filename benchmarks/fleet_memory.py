"""Memory: the peak of one worker that runs batches of 10,000, 1,000,000 and 10,000,000 no-op lines.

Each size is run by a new worker, warmed up with a small batch; the peak is measured by the kernel.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from support import table
from support.customer import customer
from support.stack import Stack, run_stack

BLOCK = 10_000


async def main(options: argparse.Namespace) -> None:
    print(f"{table.machine()}\n")
    print("| lines | file MB | time s | lines/s | peak MiB | vs first |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    async with run_stack() as stack:
        await stack.start("api")
        await stack.until_ready()
        user = await stack.user()
        first = 0.0
        for count in options.lines:
            with TemporaryDirectory(dir=options.folder) as folder:
                file = Path(folder) / "lines.jsonl"
                size = write(file, count)
                duration_s, peak = await measure(stack, user.secret, file)
            first = first or peak
            print(
                f"| {count:,} | {size / 1e6:,.1f} | {duration_s:,.1f} | "
                f"{count / duration_s:,.0f} | {peak:.0f} | {peak / first:.2f} |",
                flush=True,
            )


async def measure(stack: Stack, secret: str, file: Path) -> tuple[float, float]:
    """Return the seconds from the upload to the end, and the worker's peak memory in MiB."""
    worker = await stack.start("worker")
    async with customer(stack.api_url, secret) as client:
        await client.end(await client.create(block(0, BLOCK), "no_op"))
        start_time = time.monotonic()
        with file.open("rb") as data:
            batch = await client.create(data, "no_op")  # type: ignore[arg-type]  # sent as a stream
        status, _ = await client.end(batch, poll_s=0.1)
        duration_s = time.monotonic() - start_time
        assert status == "completed", status
        await client.call("DELETE", f"/batches/{batch}")
    peak = peak_mib(worker.pid)
    worker.terminate()
    await worker.wait()
    return duration_s, peak


def write(file: Path, count: int) -> int:
    """Write a batch file of that many lines; return its size in bytes."""
    with file.open("wb") as target:
        target.writelines(blocks(count))
    return file.stat().st_size


def blocks(count: int) -> Iterator[bytes]:
    for start in range(0, count, BLOCK):
        yield block(start, min(start + BLOCK, count))


def block(start: int, end: int) -> bytes:
    return b"".join(
        b'{"id":"line-%d","path":{"customer":"c-%d"},"body":{"amount":12.5}}\n' % (n, n % 1000)
        for n in range(start, end)
    )


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, default=None, help="for the batch file")
    asyncio.run(main(parser.parse_args()))
