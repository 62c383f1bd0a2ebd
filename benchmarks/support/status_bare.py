"""Bare aiohttp: a constant JSON of the size that get_batch answers with."""

import os

import uvloop
from aiohttp import web

ANSWER = os.environ["PEER_ANSWER"].encode()


async def get_batch(_: web.Request) -> web.Response:
    return web.Response(body=ANSWER, content_type="application/json")


def main() -> None:
    app = web.Application()
    app.router.add_get("/batches/{batch}", get_batch)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), access_log=None)


if __name__ == "__main__":
    main()
