"""An upstream API: returns a small JSON to every POST, and counts the calls per idempotency key.

With a capacity it works on so many calls at once, for so long each, and queues the others.
"""

import argparse
import asyncio
import json
from collections import Counter
from typing import Any

import uvloop
from aiohttp import web

CALLS: Counter[str] = Counter()
BODY = json.dumps({"invoice": "2026-000001", "total": 12.5, "currency": "EUR"}).encode()


CAPACITY: asyncio.Semaphore | None = None
CALL_S = 0.0


async def handle(request: web.BaseRequest) -> web.StreamResponse:
    if request.method == "GET":
        report: dict[str, Any] = {"keys": len(CALLS), "calls": sum(CALLS.values())}
        return web.json_response(report)
    await request.read()
    if CAPACITY is not None:
        async with CAPACITY:
            await asyncio.sleep(CALL_S)
    CALLS[request.headers.get("Idempotency-Key", "")] += 1
    return web.Response(body=BODY, content_type="application/json")


async def serve(port: int) -> None:
    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--capacity", type=int)
    parser.add_argument("--call-s", type=float, default=0.0)
    options = parser.parse_args()
    if options.capacity is not None:
        CAPACITY, CALL_S = asyncio.Semaphore(options.capacity), options.call_s
    uvloop.run(serve(options.port))
