"""aiohttp and asyncpg: one `fetchrow` per request, without any checks."""

import json
import os
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import uvloop
from aiohttp import web

POOL: web.AppKey["asyncpg.Pool[asyncpg.Record]"] = web.AppKey("pool", asyncpg.Pool)
SQL = "SELECT batch, created_ts, status, updated_ts, hash FROM batches WHERE batch = $1"


async def get_batch(request: web.Request) -> web.Response:
    row = await request.app[POOL].fetchrow(SQL, UUID(request.match_info["batch"]))
    if row is None:
        raise web.HTTPNotFound
    content = {
        "batch": str(row["batch"]),
        "created_ts": round(row["created_ts"].timestamp(), 3),
        "status": row["status"],
        "updated_ts": round(row["updated_ts"].timestamp(), 3),
    }
    if row["hash"] is not None:
        content["hash"] = row["hash"]
    body = json.dumps(content, separators=(",", ":"))
    return web.Response(text=body, content_type="application/json")


async def pool(app: web.Application) -> AsyncIterator[None]:
    url = os.environ["BATCHD_DATABASE_URL"]
    async with asyncpg.create_pool(url, min_size=10, max_size=10) as new_pool:
        app[POOL] = new_pool
        yield


def main() -> None:
    app = web.Application()
    app.cleanup_ctx.append(pool)
    app.router.add_get("/batches/{batch}", get_batch)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), access_log=None)


if __name__ == "__main__":
    main()
