"""The same calls by a bare aiohttp loop, 64 at a time, with the same results in a local file.

`python aiohttp_peer.py FILE RESULTS URL`: nothing is validated, retried or persisted.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec
import uvloop

CONCURRENCY = 64


async def main(source: Path, target: Path, url: str) -> None:
    lines = [msgspec.json.decode(line) for line in source.read_bytes().splitlines()]
    results: list[bytes] = [b""] * len(lines)

    async def call(indexes: Iterator[int]) -> None:
        for index in indexes:
            line = lines[index]
            async with session.post(
                f"{url}/customers/{line['path']['customer']}/invoices",
                data=msgspec.json.encode(line["body"]),
                headers={"Content-Type": "application/json", "Idempotency-Key": str(index)},
            ) as response:
                body = await response.read()
            results[index] = (
                b'{"line":%d,"id":"%b","outcome":"succeeded","status":%d,"body":%b}\n'
                % (
                    index + 1,
                    line["id"].encode(),
                    response.status,
                    body,
                )
            )

    indexes = iter(range(len(lines)))
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(call(indexes) for _ in range(CONCURRENCY)))
    with target.open("wb") as file:
        file.writelines(results)


if __name__ == "__main__":
    start = time.monotonic()
    uvloop.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
    print(time.monotonic() - start)
