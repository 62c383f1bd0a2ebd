"""A small HTTP API of invoices and exchange rates, which operations.toml calls from batches.

`python upstream.py --port 8090` serves it. It stores invoices in memory and honours
Idempotency-Key: a repeated key returns the first response and creates nothing.

To simulate failures, add `?fail=N` (the first N calls with a key return 503 with Retry-After),
`?status=409` (returns that status) or `?slow_s=1.5` (delays the response) to an invoice request.
"""

import argparse
import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

RATES = {"CHF": "0.9312", "EUR": "1", "GBP": "0.8437", "JPY": "171.25", "USD": "1.0841"}


@dataclass
class Invoices:
    calls: int = 0
    by_key: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    """Calls per key that returned 503."""


INVOICES = web.AppKey("invoices", Invoices)


async def create_invoice(request: web.Request) -> web.Response:
    invoices, query = request.app[INVOICES], request.query
    invoices.calls += 1
    key = request.headers.get("Idempotency-Key")
    if key is None:
        raise web.HTTPBadRequest(text="the Idempotency-Key header is required")
    await asyncio.sleep(float(query.get("slow_s", 0)))
    if "status" in query:
        return web.json_response({"error": "requested status"}, status=int(query["status"]))
    failed = invoices.failures.get(key, 0)
    if failed < int(query.get("fail", 0)):
        invoices.failures[key] = failed + 1
        raise web.HTTPServiceUnavailable(text="busy", headers={"Retry-After": "0"})
    if key not in invoices.by_key:
        customer = request.match_info["customer"]
        number = f"2026-{len(invoices.by_key) + 1:06}"
        invoices.by_key[key] = {"invoice": number, "customer": customer, **await request.json()}
    return web.json_response(invoices.by_key[key], status=201)


async def get_rate(request: web.Request) -> web.Response:
    currency = request.match_info["currency"]
    if currency not in RATES:
        raise web.HTTPNotFound(text=f"no rate for {currency}")
    return web.json_response({"currency": currency, "rate": RATES[currency]})


async def get_count(request: web.Request) -> web.Response:
    invoices = request.app[INVOICES]
    return web.json_response({"calls": invoices.calls, "invoices": len(invoices.by_key)})


def make_app() -> web.Application:
    app = web.Application()
    app[INVOICES] = Invoices()
    app.router.add_post("/customers/{customer}/invoices", create_invoice)
    app.router.add_get("/rates/{currency}", get_rate)
    app.router.add_get("/count", get_count)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description="A small HTTP API to call from batches.")
    parser.add_argument("--port", type=int, default=8090)
    port = parser.parse_args().port
    # reuse_port: the parent process may have reserved the port.
    web.run_app(make_app(), host="127.0.0.1", port=port, reuse_port=True)


if __name__ == "__main__":
    main()
