"""Memory: the peak of one worker whose lines have large results, with different memory budgets.

Each line of a few bytes gets a response of many megabytes; the peak is measured by the kernel.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from aiohttp import web
from fleet_memory import peak_mib
from support import table
from support.customer import customer
from support.stack import Stack, run_stack

MIB = 1024**2
_OPERATIONS = """
[operations.get_report]
method = "GET"
url = "{url}/reports/{{n}}"
max_answer_bytes = {max_bytes}
"""


async def main(options: argparse.Namespace) -> None:
    print(f"{table.machine()}\n")
    print("| budget MiB | upload bytes | results MB | time s | peak MiB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    with TemporaryDirectory() as name:
        async with run_upstream(options.response_mib * MIB) as url:
            file = Path(name) / "operations.toml"
            max_bytes = (options.response_mib + 1) * MIB
            file.write_text(_OPERATIONS.format(url=url, max_bytes=max_bytes))
            async with run_stack(operations=file) as stack:
                await stack.start("api")
                await stack.until_ready()
                secret = (await stack.user()).secret
                for budget_mib in options.budgets_mib:
                    row = await measure(stack, secret, options.lines, budget_mib)
                    print(f"| {budget_mib} | {row} |", flush=True)


async def measure(stack: Stack, secret: str, lines: int, budget_mib: int) -> str:
    """Return the cells of one run."""
    worker = await stack.start("worker", worker_memory_bytes=budget_mib * MIB)
    data = b"".join(b'{"path":{"n":%d}}\n' % n for n in range(lines))
    async with customer(stack.api_url, secret) as client:
        start_time = time.monotonic()
        batch = await client.create(data, "get_report")
        status, _ = await client.end(batch, poll_s=0.1)
        duration_s = time.monotonic() - start_time
        assert status == "completed", status
        reply = await client.call("GET", f"/batches/{batch}?expand=results,progress")
        assert reply["progress"]["succeeded"] == lines, reply
        await client.call("DELETE", f"/batches/{batch}")
    peak = peak_mib(worker.pid)
    worker.terminate()
    await worker.wait()
    return f"{len(data)} | {reply['results']['size'] / 1e6:.0f} | {duration_s:.1f} | {peak:.0f}"


@asynccontextmanager
async def run_upstream(response_bytes: int) -> AsyncIterator[str]:
    """Serve reports of this size, and yield the URL."""
    body = b'{"report":"%b"}' % (b"x" * (response_bytes - 13))

    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/reports/{n}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=64)
    parser.add_argument("--response-mib", type=int, default=4)
    parser.add_argument("--budgets-mib", type=int, nargs="+", default=[1024, 256, 64])
    asyncio.run(main(parser.parse_args()))
