"""Bare aiohttp: a constant JSON body of the size of a get_batch response."""

import os

import uvloop
from aiohttp import web

BODY = os.environ["PEER_BODY"].encode()


async def get_batch(_: web.Request) -> web.Response:
    return web.Response(body=BODY, content_type="application/json")


def main() -> None:
    app = web.Application()
    app.router.add_get("/batches/{batch}", get_batch)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), access_log=None)


if __name__ == "__main__":
    main()
