"""An HTTP operation for batches, and the upstream that it calls."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from batchd.devstack.ports import reserve_port

NAME = "create_invoice"
_OPERATIONS = """
[operations.create_invoice]
method = "POST"
url = "http://127.0.0.1:{port}/customers/{{customer}}/invoices"
concurrency = {concurrency}
timeout_s = 30

[operations.create_invoice.body]
type = "object"
required = ["amount"]
properties = {{ amount = {{ type = "number" }} }}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    url: str
    file: Path
    """The operations file whose operations call it."""

    async def counts(self) -> dict[str, Any]:
        """Return the number of calls and of distinct idempotency keys."""
        async with aiohttp.ClientSession() as session, session.get(self.url) as response:
            counts: dict[str, Any] = await response.json()
            return counts


@asynccontextmanager
async def run_upstream(
    folder: Path,
    *,
    concurrency: int = 64,
    operations: str = _OPERATIONS,
    arguments: Sequence[str] = (),
) -> AsyncIterator[Upstream]:
    """Run the upstream with these arguments; the operations are a template of their file."""
    with reserve_port(0) as port:
        pass
    file = folder / "operations.toml"
    file.write_text(operations.format(port=port, concurrency=concurrency))
    program = Path(__file__).with_name("upstream.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(program), str(port), *arguments
    )
    try:
        upstream = Upstream(f"http://127.0.0.1:{port}", file)
        while True:
            try:
                await upstream.counts()
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
        yield upstream
    finally:
        process.terminate()
        await process.wait()


def lines(count: int) -> bytes:
    """Return a batch file of that many calls."""
    return b"".join(
        b'{"id":"%d","path":{"customer":"c-%d"},"body":{"amount":12.5}}\n' % (n, n % 100)
        for n in range(1, count + 1)
    )
