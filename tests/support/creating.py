"""create_batch, called as tests of it need to: with any body, and under any key."""

import hashlib

from tests.support.callers import ApiCaller, Reply, lines_of

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
SHA256 = hashlib.sha256(LINES).hexdigest()


async def body_of(caller: ApiCaller, **more: object) -> dict[str, object]:
    """Upload a file and return the body that creates a batch from it."""
    return {"handler": await caller.upload(LINES), "operation": "get_batch", **more}


async def create(caller: ApiCaller, body: object, *, key: str | None = None) -> Reply:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await caller.call("POST", "/batches", json=body, headers=headers)


async def listed(caller: ApiCaller) -> set[str]:
    """Return the account's batches."""
    return set((await caller.get("/batches")).body["batches"])
