"""Hostile batch files: what each costs a worker, and what small batches of others wait meanwhile.

Each file is validated, or refused, by a new worker, warmed up with a small batch. The peak memory
is measured by the kernel. A neighbour creates batches of one line, one after the other, as long as
the file is worked on, and 5 s at least; the longest one counts. What has not ended after
`--limit-s` is cancelled: the row then says so.
"""

import argparse
import asyncio
import gzip
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from zlib import crc32

from support import table
from support.customer import Customer, customer
from support.stack import Stack, run_stack

SMALL = b'{"id":"a"}\n'
MIB = 1024**2


def colliding_ids(count: int) -> Iterator[bytes]:
    """Yield ids whose CRC-32 has the same six lowest bits.

    CRC-32 is linear: changing a letter by a bit changes the sum by a constant. Combinations of such
    changes that cancel each other out give as many ids as needed.
    """
    base = b"a" * 15
    kernel: list[tuple[int, int]] = []
    pivots: dict[int, tuple[int, int]] = {}
    for position, bit in product(range(15), range(4)):
        change = 1 << (8 * position + bit)
        text = (int.from_bytes(base, "big") ^ change).to_bytes(15, "big")
        effect = (crc32(text) ^ crc32(base)) & 63
        while effect and (pivot := pivots.get(effect.bit_length())):
            change, effect = change ^ pivot[0], effect ^ pivot[1]
        if effect:
            pivots[effect.bit_length()] = (change, effect)
        else:
            kernel.append((change, 0))
    value = int.from_bytes(base, "big")
    for number in range(1, count + 1):
        yield value.to_bytes(15, "big")
        value ^= kernel[(number & -number).bit_length() - 1][0]  # a Gray code


def lines_with_ids(ids: Iterator[bytes]) -> bytes:
    return b"".join(b'{"id":"%b"}\n' % line_id for line_id in ids)


def colliding(count: int) -> bytes:
    return gzip.compress(lines_with_ids(colliding_ids(count)), 6)


INPUTS: Mapping[str, Callable[[], bytes]] = {
    "200,000 ids that collide in CRC-32, gzip": lambda: colliding(200_000),
    "2,000,000 ids that collide in CRC-32, gzip": lambda: colliding(2_000_000),
    "2,000,000 times the same id, gzip": lambda: gzip.compress(SMALL * 2_000_000),
    "36 MB of line breaks, gzip": lambda: gzip.compress(b"\n" * 36_000_000),
    "36 MB of lines, gzip": lambda: gzip.compress(b"{}\n" * 12_000_000),
    "1,600 empty gzip members": lambda: gzip.compress(b"") * 1_600,
    "32 MB of gzip padding": lambda: gzip.compress(b"{}\n") + bytes(32 * MIB),
    "1,000 lines of 200 unknown names": lambda: (
        (b"{%b}\n" % b",".join(b'"%d":1' % number for number in range(200))) * 1_000
    ),
    "a line of 1 MB of brackets": lambda: b"[" * (MIB - 1),
    "a body nested 256 deep": lambda: b'{"body":%b1%b}' % (b'{"a":' * 256, b"}" * 256),
    "2 MB zip": lambda: b"PK\x03\x04" + b"\n\xff" * MIB,
}


async def main(options: argparse.Namespace) -> None:
    print(f"{table.machine()}; {options.copies} copies of each file at a time\n")
    print(
        "| file | upload kB | time s | report kB | MiB before | peak MiB | small batch s | ends |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    async with run_stack(max_open_batches=1000) as stack:
        await stack.start("api")
        await stack.until_ready()
        for name, make in INPUTS.items():
            if options.only in name:
                print(await measure(stack, name, make(), options), flush=True)


async def measure(stack: Stack, name: str, data: bytes, options: argparse.Namespace) -> str:
    """Return a row of the table."""
    user, neighbour = await stack.user(), await stack.user()
    worker = await stack.start("worker")
    async with (
        customer(stack.api_url, user.secret) as attacker,
        customer(stack.api_url, neighbour.secret) as victim,
    ):
        await victim.end(await victim.create(SMALL, "no_op"))
        before = peak_mib(worker.pid)
        start_time = time.monotonic()
        batches = [await attacker.create(data, "no_op") for _ in range(options.copies)]
        watching = asyncio.create_task(longest_small_batch(victim, start_time + 5))
        ends = await end_all(attacker, batches, limit_s=options.limit_s)
        duration_s = time.monotonic() - start_time
        watching.cancel()
        longest_s = await watching
        report = b""
        if ends[0] == "validation_failed":
            report = await attacker.download(batches[0])
        peak = peak_mib(worker.pid)
        for batch in batches:
            await attacker.call("DELETE", f"/batches/{batch}")
    worker.terminate()
    await worker.wait()
    return (
        f"| {name} | {len(data) / 1e3:,.1f} | {duration_s:,.1f} | {len(report) / 1e3:,.1f} | "
        f"{before:.0f} | {peak:.0f} | {longest_s:.2f} | {describe(ends)} |"
    )


async def end_all(attacker: Customer, batches: list[str], *, limit_s: float) -> list[str]:
    """Return the end status of each batch; those that take longer are cancelled."""
    try:
        async with asyncio.timeout(limit_s):
            return await end_statuses(attacker, batches)
    except TimeoutError:
        for batch in batches:
            with suppress(RuntimeError):  # it has ended
                await attacker.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
        return await end_statuses(attacker, batches)


async def end_statuses(attacker: Customer, batches: list[str]) -> list[str]:
    return [(await attacker.end(batch, poll_s=0.2))[0] for batch in batches]


def describe(ends: list[str]) -> str:
    counts = Counter(ends)
    if len(counts) == 1:
        return ends[0]
    return ", ".join(f"{count} {status}" for status, count in counts.items())


async def longest_small_batch(victim: Customer, until: float) -> float:
    """Create small batches until cancelled, and not before `until`; return the longest duration."""
    longest_s = 0.0
    cancelled = False
    while not cancelled or time.monotonic() < until:
        start_time = time.monotonic()
        running = asyncio.create_task(run_small_batch(victim))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled = True
            await running
        longest_s = max(longest_s, time.monotonic() - start_time)
    return longest_s


async def run_small_batch(victim: Customer) -> None:
    await victim.end(await victim.create(SMALL, "no_op"), poll_s=0.02)


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--limit-s", type=float, default=300)
    parser.add_argument(
        "--only", default="", help="a part of the names of the files to be measured"
    )
    asyncio.run(main(parser.parse_args()))
